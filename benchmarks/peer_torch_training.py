#!/usr/bin/env python3
"""Times training steps of Mynah and of PyTorch in turns: forward, loss, backward and AdamW on a DistilBERT classifier.

Needs from PyPI: torch transformers. Both see 16 texts of 32 tokens (or --batch and --tokens) and 64 classes, in float32.
`frozen` is the number of lower layers that are not trained; with any, the embeddings are not either, and Mynah remembers
what they give. Prints one line a setting: both medians over all rounds, and the ratio.

With --device cuda both train on the first NVIDIA card; Mynah has to be built with `--features cuda` for that, or with
`--features wgpu` and --mynah-device wgpu. PyTorch may then round to TF32, as burn's matrix products do with CUDA (not with
wgpu: --no-tf32).

  peer_torch_training.py --mynah target/release/mynah (--model DIR | --random 768x6x12x3072) [--rounds 3] [--device cuda]
"""
import argparse, json, statistics, subprocess, time
import torch
from transformers import DistilBertConfig, DistilBertForSequenceClassification


def configuration(args):
    if args.model:
        sizes = json.load(open(args.model + "/config.json"))
    else:
        dim, layers, heads, hidden = map(int, args.random.split("x"))
        sizes = dict(dim=dim, n_layers=layers, n_heads=heads, hidden_dim=hidden, vocab_size=30522)
    keys = ("dim", "n_layers", "n_heads", "hidden_dim", "vocab_size", "max_position_embeddings")
    return DistilBertConfig(num_labels=64, **{key: sizes[key] for key in keys if key in sizes})


def torch_step(config, frozen, threads, args):
    torch.manual_seed(1)
    torch.set_num_threads(threads)
    torch.backends.cuda.matmul.allow_tf32 = not args.no_tf32
    model = DistilBertForSequenceClassification(config).train().to(args.device)
    if frozen:
        encoder = model.distilbert
        for part in [encoder.embeddings, *encoder.transformer.layer[:frozen]]:
            part.requires_grad_(False)
    optimizer = torch.optim.AdamW([p for p in model.parameters() if p.requires_grad], lr=5e-5)
    ids = torch.randint(1000, 9000, (args.batch, args.tokens)).to(args.device)
    labels = (torch.arange(args.batch) % 64).to(args.device)
    times, started = [], None
    while len(times) < 5 or time.monotonic() - started < args.seconds:
        before = time.perf_counter()
        optimizer.zero_grad()
        model(input_ids=ids, labels=labels).loss.backward()
        optimizer.step()
        if args.device != "cpu":
            torch.cuda.synchronize()
        times.append((time.perf_counter() - before) * 1e3)
        if len(times) == 3 and started is None:
            times, started = [], time.monotonic()
    return statistics.median(times)


def mynah_step(frozen, threads, args):
    model = ["--model", args.model] if args.model else ["--random", args.random]
    shape = ["--batch", str(args.batch), "--tokens", str(args.tokens), "--seconds", str(args.seconds)]
    command = [args.mynah, "benchmark", "training", *model, *shape, "--threads", str(threads), "--frozen", str(frozen)]
    command += ["--device", args.mynah_device or args.device]
    output = subprocess.run([*command, "--json"], check=True, capture_output=True, text=True).stdout
    return json.loads(output.splitlines()[0])["median_ms"]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--mynah", required=True)
    parser.add_argument("--model")
    parser.add_argument("--random")
    parser.add_argument("--batch", type=int, default=16)
    parser.add_argument("--tokens", type=int, default=32)
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--frozen", default="0,3")
    parser.add_argument("--seconds", type=float, default=2)
    parser.add_argument("--rounds", type=int, default=3)
    parser.add_argument("--device", default="cpu", help="cpu or cuda")
    parser.add_argument("--mynah-device", help="Mynah's, where it is another: wgpu")
    parser.add_argument("--no-tf32", action="store_true", help="PyTorch multiplies in full float32 on a card")
    args = parser.parse_args()
    if args.device != "cpu":
        args.threads = "1"
    if bool(args.model) == bool(args.random):
        parser.error("either --model or --random")
    config = configuration(args)
    settings = [(f, t) for f in map(int, args.frozen.split(",")) for t in map(int, args.threads.split(","))]
    times = {setting: ([], []) for setting in settings}
    for _ in range(args.rounds):
        for setting in settings:
            times[setting][0].append(mynah_step(*setting, args))
            times[setting][1].append(torch_step(config, *setting, args))
    for (frozen, threads), (ours, theirs) in times.items():
        ours, theirs = statistics.median(ours), statistics.median(theirs)
        whole = statistics.median(times[(0, threads)][1]) if (0, threads) in times else None
        line = dict(device=args.device, frozen=frozen, threads=threads, mynah_ms=round(ours, 1), torch_ms=round(theirs, 1), ratio=round(ours / theirs, 2))
        if whole and frozen:
            line["of_torchs_whole_step"] = round(ours / whole, 2)
        print(json.dumps(line), flush=True)


if __name__ == "__main__":
    main()
