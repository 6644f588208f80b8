#!/usr/bin/env python3
"""Trains and scores an answer head in PyTorch: the peer of `mynah benchmark answers`.

Needs from PyPI: torch transformers tokenizers numpy. Takes the same files, windows, batches, epochs, learning rates, dropout
and frozen embeddings as `mynah benchmark answers` by default, in float32, and scores with exact match and F1 of SQuAD v1.1.

  peer_torch_answers.py --model DIR --train FILE... --test FILE [--every 2] [--epochs 1] [--threads 2]
"""
import argparse, collections, gzip, json, random, re, string, time
import numpy as np
import torch
from tokenizers import Tokenizer
from transformers import DistilBertForQuestionAnswering

MAX_ANSWER_TOKENS, SERVED_TOKENS, SERVED_WINDOWS = 30, 384, 8


def records(path):
    with (gzip.open if path.endswith(".gz") else open)(path, "rt", encoding="utf-8") as lines:
        yield from (json.loads(line) for line in lines)


def windows(question, context, size, overlap, most):
    """[CLS] question [SEP] part of the context [SEP], with the token at which the context starts and its offsets."""
    question = question.ids[: size // 2 - 2]
    room = size - len(question) - 3
    start = 0
    for _ in range(most):
        ids, offsets = context.ids[start : start + room], context.offsets[start : start + room]
        yield [101, *question, 102, *ids, 102], len(question) + 2, offsets
        if start + room >= len(context.ids):
            return
        start += room - min(overlap, room // 2)


def occurrence(record, answer):
    """Where an uncertain answer stands: where the words around share most with the question."""
    context, text = record["context"], answer["text"]
    if answer.get("start_exact", True):
        return answer["start"]
    asked = set(re.findall(r"\w+", record["question"].lower()))
    best, start = -1, answer["start"]
    for at in [answer["start"]] + [m.start() for m in re.finditer(re.escape(text), context)]:
        near = context[max(0, at - 100) : at + len(text) + 100].lower()
        shared = len(asked & set(re.findall(r"\w+", near)))
        if shared > best:
            best, start = shared, at
    return start


def training_windows(tokenizer, files, every, size, overlap):
    out = []
    for path in files:
        chosen = [r for r in records(path) if r["split"] == "train"][::every]
        questions = tokenizer.encode_batch([r["question"] for r in chosen], add_special_tokens=False)
        known = {}
        for record, question in zip(chosen, questions):
            context = record["context"]
            if context not in known:
                known[context] = tokenizer.encode(context, add_special_tokens=False)
            span = None
            if record["answers"]:
                texts = [a["text"] for a in record["answers"]]
                answer = max(record["answers"], key=lambda a: texts.count(a["text"]))
                start = occurrence(record, answer)
                span = (start, start + len(answer["text"]))
            for ids, first, offsets in windows(question, known[context], size, overlap, 64):
                at = (0, 0)
                if span:
                    tokens = [i for i, (s, e) in enumerate(offsets) if s < span[1] and span[0] < e]
                    if tokens and offsets[tokens[0]][0] <= span[0] and span[1] <= offsets[tokens[-1]][1]:
                        at = (first + tokens[0], first + tokens[-1])
                out.append((ids, at))
    return out


def batches(items, size, shuffled):
    """Batches of similar length: sorted within stretches of 32 batches, in random order."""
    order = list(range(len(items)))
    if not shuffled:
        order.sort(key=lambda i: len(items[i][0]))
        return [order[i : i + size] for i in range(0, len(order), size)]
    random.shuffle(order)
    out = []
    for i in range(0, len(order), size * 32):
        stretch = sorted(order[i : i + size * 32], key=lambda i: len(items[i][0]))
        out += [stretch[j : j + size] for j in range(0, len(stretch), size)]
    random.shuffle(out)
    return out


def padded(rows):
    width = max(map(len, rows))
    ids = torch.tensor([row + [0] * (width - len(row)) for row in rows])
    mask = torch.tensor([[1] * len(row) + [0] * (width - len(row)) for row in rows])
    return ids, mask


def train(model, items, a):
    for parameter in model.distilbert.embeddings.parameters():
        parameter.requires_grad = False
    head = list(model.qa_outputs.parameters())
    encoder = [p for p in model.distilbert.parameters() if p.requires_grad]
    groups = [{"params": encoder, "lr": a.learning_rate}, {"params": head, "lr": 3 * a.learning_rate}]
    optimizer = torch.optim.AdamW(groups, eps=1e-8, weight_decay=0.01)
    steps = a.epochs * -(-len(items) // a.batch_size)
    warm = max(1, round(0.1 * steps))
    rate = lambda step: min((step + 1) / warm, max(0.0, (steps - step) / (steps - warm + 1)))
    schedule = torch.optim.lr_scheduler.LambdaLR(optimizer, rate)
    model.train()
    tokens, done, began, losses = 0, 0, time.time(), []
    for _ in range(a.epochs):
        for batch in batches(items, a.batch_size, True):
            ids, mask = padded([items[i][0] for i in batch])
            starts, ends = (torch.tensor([items[i][1][side] for i in batch]) for side in (0, 1))
            loss = model(input_ids=ids, attention_mask=mask, start_positions=starts, end_positions=ends).loss
            optimizer.zero_grad()
            loss.backward()
            for parameter in encoder + head:
                torch.nn.utils.clip_grad_norm_(parameter, 1.0)
            optimizer.step()
            schedule.step()
            tokens, done = tokens + int(mask.sum()), done + 1
            losses.append(loss.item())
            if done % 25 == 0:
                print(f"step {done}/{steps}  loss {np.mean(losses[-25:]):.3f}  {tokens / (time.time() - began):.0f} tokens/s", flush=True)
            if done == a.steps:
                return tokens, time.time() - began
    return tokens, time.time() - began


def best_span(starts, ends, first, offsets):
    starts, ends = starts[first : first + len(offsets)], ends[first : first + len(offsets)]
    best = (-np.inf, 0, 0)
    for i in range(len(offsets)):
        j = i + int(np.argmax(ends[i : i + MAX_ANSWER_TOKENS]))
        best = max(best, (starts[i] + ends[j], i, j))
    return best


def normalise(text):
    text = "".join(c for c in text.lower() if c not in set(string.punctuation))
    return " ".join(re.sub(r"\b(a|an|the)\b", " ", text).split())


def f1(predicted, truth):
    predicted, truth = normalise(predicted).split(), normalise(truth).split()
    same = sum((collections.Counter(predicted) & collections.Counter(truth)).values())
    return 0.0 if same == 0 else 2 * same / (len(predicted) + len(truth))


def evaluate(model, tokenizer, path, every, batch_size):
    model.eval()
    questions = list(records(path))[::every]
    items = []
    for number, record in enumerate(questions):
        question, context = tokenizer.encode_batch([record["question"], record["context"]], add_special_tokens=False)
        for ids, first, offsets in windows(question, context, SERVED_TOKENS, SERVED_TOKENS // 4, SERVED_WINDOWS):
            items.append((ids, number, first, offsets))
    answers = [(-np.inf, "")] * len(questions)
    with torch.inference_mode():
        for batch in batches(items, batch_size, False):
            ids, mask = padded([items[i][0] for i in batch])
            out = model(input_ids=ids, attention_mask=mask)
            for row, i in enumerate(batch):
                _, number, first, offsets = items[i]
                starts, ends = out.start_logits[row].numpy(), out.end_logits[row].numpy()
                score, start, end = best_span(starts, ends, first, offsets)
                text = questions[number]["context"][offsets[start][0] : offsets[end][1]]
                answers[number] = max(answers[number], (score - starts[0] - ends[0], text))
    best = lambda measure: np.mean(
        [max(measure(a, t["text"]) for t in q["answers"]) for (_, a), q in zip(answers, questions)]
    )
    return len(questions), float(best(lambda a, t: float(normalise(a) == normalise(t)))), float(best(f1))


def main():
    ap = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    ap.add_argument("--model", required=True)
    ap.add_argument("--train", nargs="+", required=True)
    ap.add_argument("--test", required=True)
    ap.add_argument("--every", type=int, default=1)
    ap.add_argument("--test-every", type=int, default=1)
    ap.add_argument("--epochs", type=int, default=2)
    ap.add_argument("--batch-size", type=int, default=16)
    ap.add_argument("--learning-rate", type=float, default=2e-4)
    ap.add_argument("--window", type=int, default=256)
    ap.add_argument("--overlap", type=int, default=64)
    ap.add_argument("--seed", type=int, default=42)
    ap.add_argument("--threads", type=int, default=2)
    ap.add_argument("--steps", type=int, default=0, help="stop after so many steps (0: never) to time them")
    a = ap.parse_args()
    torch.set_num_threads(a.threads)
    torch.manual_seed(a.seed)
    random.seed(a.seed)
    tokenizer = Tokenizer.from_file(f"{a.model}/tokenizer.json")
    tokenizer.no_truncation()
    tokenizer.no_padding()
    # Mynah's training has no dropout inside the attention.
    model = DistilBertForQuestionAnswering.from_pretrained(a.model, dtype=torch.float32, attention_dropout=0.0)
    items = training_windows(tokenizer, a.train, a.every, a.window, a.overlap)
    print(f"{len(items)} windows, {sum(len(ids) for ids, _ in items)} tokens", flush=True)
    tokens, seconds = train(model, items, a)
    if a.steps:
        return
    n, exact, score = evaluate(model, tokenizer, a.test, a.test_every, 32)
    print(json.dumps({"peer": "torch", "threads": a.threads, "windows": len(items), "tokens": tokens,
                      "train_seconds": round(seconds), "n": n, "exact_match": exact, "f1": score}))


if __name__ == "__main__":
    main()
