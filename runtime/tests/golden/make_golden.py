"""Computes starter.json: hidden states of the starter model by an independent reference in numpy.

Follows Hugging Face's modeling_distilbert.py in float64, one sequence at a time, straight from model.safetensors; it
shares no code with the runtime. Tokens come from the Python package `tokenizers`. Run it again only when the starter
or the sentences change:

    python3 -m venv venv && venv/bin/pip install numpy tokenizers
    venv/bin/python make_golden.py ../../starter > starter.json
"""

import json
import math
import struct
import sys
from pathlib import Path

import numpy as np

SENTENCES = [
    "Dim the kitchen lamps to thirty percent, please.",
    "what's on my calendar next tuesday afternoon?",
    "Remind me in 45 minutes to take the bread out of the oven",
    "Café Zürich – naïve façade, 東京!",
    "no",
]


def read_safetensors(path):
    raw = path.read_bytes()
    (length,) = struct.unpack("<Q", raw[:8])
    header = json.loads(raw[8 : 8 + length])
    data = raw[8 + length :]
    kinds = {"F16": "<f2", "F32": "<f4"}
    return {
        name: np.frombuffer(data[slice(*info["data_offsets"])], kinds[info["dtype"]])
        .reshape(info["shape"])
        .astype(np.float64)
        for name, info in header.items()
        if name != "__metadata__"
    }


def forward(config, tensors, input_ids):
    def norm(x, name):
        mean = x.mean(-1, keepdims=True)
        variance = ((x - mean) ** 2).mean(-1, keepdims=True)
        return (x - mean) / np.sqrt(variance + 1e-12) * tensors[f"{name}.weight"] + tensors[f"{name}.bias"]

    def linear(x, name):
        return x @ tensors[f"{name}.weight"].T + tensors[f"{name}.bias"]

    length, heads = len(input_ids), config["n_heads"]
    embeddings = "distilbert.embeddings"
    x = tensors[f"{embeddings}.word_embeddings.weight"][input_ids]
    x = x + tensors[f"{embeddings}.position_embeddings.weight"][:length]
    x = norm(x, f"{embeddings}.LayerNorm")
    for index in range(config["n_layers"]):
        layer = f"distilbert.transformer.layer.{index}"

        def split(part):
            return linear(x, f"{layer}.attention.{part}").reshape(length, heads, -1).transpose(1, 0, 2)

        query, key, value = split("q_lin"), split("k_lin"), split("v_lin")
        scores = query @ key.transpose(0, 2, 1) / math.sqrt(query.shape[-1])
        scores = np.exp(scores - scores.max(-1, keepdims=True))
        scores /= scores.sum(-1, keepdims=True)
        context = (scores @ value).transpose(1, 0, 2).reshape(length, -1)
        x = norm(x + linear(context, f"{layer}.attention.out_lin"), f"{layer}.sa_layer_norm")
        hidden = linear(x, f"{layer}.ffn.lin1")
        hidden = 0.5 * hidden * (1 + np.vectorize(math.erf)(hidden / math.sqrt(2)))
        x = norm(x + linear(hidden, f"{layer}.ffn.lin2"), f"{layer}.output_layer_norm")
    return x


def main():
    from tokenizers import Tokenizer

    directory = Path(sys.argv[1])
    config = json.loads((directory / "config.json").read_text())
    tensors = read_safetensors(directory / "model.safetensors")
    tokenizer = Tokenizer.from_file(str(directory / "tokenizer.json"))
    sentences = []
    for text in SENTENCES:
        input_ids = tokenizer.encode(text).ids
        x = forward(config, tensors, input_ids)
        mean = x.mean(0)
        rounded = lambda values: [round(float(value), 6) for value in values]
        sentences.append(
            {
                "text": text,
                "input_ids": input_ids,
                "first_token": rounded(x[0]),
                "last_token": rounded(x[-1]),
                "embedding": rounded(mean / np.linalg.norm(mean)),
            }
        )
    # One sentence a line keeps the file short and its history readable.
    lines = ",\n".join(json.dumps(sentence, ensure_ascii=False, separators=(",", ":")) for sentence in sentences)
    print('{"about":"float64 reference by make_golden.py","sentences":[\n' + lines + "\n]}")


if __name__ == "__main__":
    main()
