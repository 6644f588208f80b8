"""Checks that `transformers` opens a version exported by Mynah and computes the same function logits.

    python3 check.py DIRECTORY LOGITS      compare an exported directory with what Mynah computed for it
    python3 check.py --mynah PROGRAM       make both with that program in a temporary home first, offline

LOGITS is JSON Lines as `mynah predict --json --logits --precision f32` prints them: objects with `text` and
`function_logits`, a score by function. Needs the packages torch and transformers. Exits 0 when every logit differs by
at most the tolerance, else 1.
"""

import argparse
import json
import os
import subprocess
import sys
import tempfile
from pathlib import Path

TOLERANCE = 1e-3
# What Mynah reads of an utterance, [CLS] and [SEP] included.
MAX_TOKENS = 128
BATCH = 32
# What transformers has no place for in a sequence classifier.
MYNAHS_OWN = ("slot_classifier.", "qa_outputs.")

TEXTS = [
    "wake me at half past six tomorrow",
    "set a timer for twelve minutes",
    "WILL it rain in São Paulo on Friday?!",
    "play something by 東京事変 – loud",
    "no",
    "the quick brown fox said \"don't\" 3,5 times at 12:30, for $4.99 #fine",
    "how many moons fit into a sock",
    "turn the lights off and on again " * 40,
]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("directory", nargs="?", type=Path)
    parser.add_argument("logits", nargs="?", type=Path)
    parser.add_argument("--mynah", type=Path, metavar="PROGRAM")
    arguments = parser.parse_args()
    if arguments.mynah and not arguments.directory:
        with tempfile.TemporaryDirectory(prefix="mynah-interop-") as scratch:
            return compare(*make(arguments.mynah.resolve(), Path(scratch)))
    if arguments.directory and arguments.logits and not arguments.mynah:
        return compare(arguments.directory, arguments.logits)
    parser.error("give a directory and a file of logits, or --mynah")


def make(mynah, scratch):
    """Trains a version on the quickstart's functions, exports it, and predicts the texts."""
    home, directory, logits = scratch / "home", scratch / "exported", scratch / "logits.jsonl"
    functions = Path(__file__).resolve().parents[2] / "controller" / "quickstart" / "functions.json"
    # Neither somebody's settings nor their home.
    environment = {name: value for name, value in os.environ.items() if not name.startswith("MYNAH_")}

    def run(*command, accept=(0,), text=None):
        done = subprocess.run(
            [mynah, *command, "--home", home, "--quiet"],
            input=text, stdout=subprocess.PIPE, env=environment, encoding="utf-8",
        )
        if done.returncode not in accept:
            sys.exit(f"mynah {command[0]} ended with {done.returncode}")
        return done.stdout

    run("init", "--functions", functions)
    # One epoch is no good model; a refused one (4) is a version all the same.
    run("train", "--epochs", "1", accept=(0, 4))
    run("models", "export", "v1", directory)
    texts = "".join(json.dumps({"text": text}) + "\n" for text in TEXTS)
    logits.write_text(
        run("predict", "--version", "v1", "--precision", "f32", "--json", "--logits", text=texts), encoding="utf-8"
    )
    return directory, logits


def compare(directory, logits):
    import torch
    from tokenizers import Tokenizer
    from transformers import DistilBertForSequenceClassification

    model, loading = DistilBertForSequenceClassification.from_pretrained(
        directory, dtype=torch.float32, output_loading_info=True
    )
    model.eval()
    for problem in ("missing_keys", "mismatched_keys"):
        if loading.get(problem):
            sys.exit(f"{directory}: {problem}: {loading[problem]}")
    unknown = [key for key in loading.get("unexpected_keys", ()) if not key.startswith(MYNAHS_OWN)]
    if unknown:
        sys.exit(f"{directory}: tensors that transformers does not know: {unknown}")
    functions = [model.config.id2label[index] for index in range(model.config.num_labels)]

    tokenizer = Tokenizer.from_file(str(Path(directory) / "tokenizer.json"))
    tokenizer.no_padding()
    tokenizer.no_truncation()
    first, last = tokenizer.token_to_id("[CLS]"), tokenizer.token_to_id("[SEP]")

    def encode(text):
        return [first, *tokenizer.encode(text, add_special_tokens=False).ids[: MAX_TOKENS - 2], last]

    with open(logits, encoding="utf-8") as lines:
        rows = [row for row in map(json.loads, lines) if "error" not in row]
    if not rows:
        sys.exit(f"{logits} has no predictions")
    worst, where, agreed = 0.0, "", 0
    for start in range(0, len(rows), BATCH):
        batch = rows[start : start + BATCH]
        ids = [encode(row["text"]) for row in batch]
        width = max(map(len, ids))
        input_ids = torch.tensor([row + [0] * (width - len(row)) for row in ids])
        attention_mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in ids])
        with torch.inference_mode():
            theirs = model(input_ids=input_ids, attention_mask=attention_mask).logits
        for row, reference in zip(batch, theirs):
            if set(row["function_logits"]) != set(functions):
                sys.exit(f"the functions differ: {sorted(set(row['function_logits']) ^ set(functions))}")
            ours = torch.tensor([row["function_logits"][name] for name in functions])
            agreed += int(ours.argmax() == reference.argmax())
            difference = (ours - reference).abs().max().item()
            if not difference <= worst:
                worst, where = difference, row["text"]
    print(
        f"{len(rows)} texts, {len(functions)} functions: largest difference {worst:.2e} (at most {TOLERANCE:.0e}), "
        f"the same function for {agreed}"
    )
    if not worst <= TOLERANCE:
        print(f"differs most for {where[:80]!r}", file=sys.stderr)
        return 1
    return 0


if __name__ == "__main__":
    sys.exit(main())
