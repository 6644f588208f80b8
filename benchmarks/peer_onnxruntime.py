#!/usr/bin/env python3
"""Mynah's encoder beside onnxruntime with dynamic int8 quantisation, on the same weights, threads and token ids.

    pip install onnx onnxruntime numpy safetensors
    python3 benchmarks/peer_onnxruntime.py --mynah target/release/mynah --model ./my-distilbert
    python3 benchmarks/peer_onnxruntime.py --mynah target/release/mynah --random 768x6x12x3072

The two run in turns, `--rounds` times, so that both see the machine in the same moods; every line is a median over one
round, and the last lines are the ratios of the medians over all rounds. Without --mynah only onnxruntime is timed. The
graph uses the operators that onnxruntime has fused kernels for (LayerNormalization, Gelu).
"""

import argparse
import collections
import json
import math
import pathlib
import statistics
import subprocess
import tempfile
import time

import numpy as np
import onnx
import onnxruntime
from onnx import TensorProto, helper, numpy_helper
from onnxruntime.quantization import QuantType, quantize_dynamic


class Weights:
    """Tensors of a checkpoint by their names in Hugging Face's DistilBERT, or random ones of the same shapes."""

    def __init__(self, directory, sizes):
        self.tensors = None
        if directory:
            from safetensors.numpy import load_file

            self.config = json.loads((directory / "config.json").read_text())
            self.tensors = {}
            for file in directory.glob("*.safetensors"):
                self.tensors.update(load_file(file))
        else:
            dim, layers, heads, hidden = (int(size) for size in sizes.split("x"))
            self.config = {"dim": dim, "n_layers": layers, "n_heads": heads, "hidden_dim": hidden,
                           "vocab_size": 30522, "max_position_embeddings": 512}
            self.random = np.random.default_rng(7)

    def __call__(self, name, *shape):
        if self.tensors is None:
            return self.random.normal(0, 0.02, shape).astype(np.float32)
        return self.tensors["distilbert." + name].astype(np.float32).reshape(shape)


class Graph:
    """An ONNX graph that grows node by node; values are named by their number."""

    def __init__(self):
        self.nodes, self.constants = [], []

    def constant(self, array):
        name = f"c{len(self.constants)}"
        self.constants.append(numpy_helper.from_array(np.ascontiguousarray(array), name))
        return name

    def __call__(self, operator, *inputs, **attributes):
        inputs = [value if isinstance(value, str) else self.constant(value) for value in inputs]
        output = f"v{len(self.nodes)}"
        self.nodes.append(helper.make_node(operator, inputs, [output], **attributes))
        return output


def export(weights, path):
    """Writes the encoder: token ids and a mask in, hidden states out."""
    g, c = Graph(), weights.config
    dim, heads, hidden = c["dim"], c["n_heads"], c["hidden_dim"]
    head = dim // heads

    def layer(x, name, inputs, outputs):
        product = g("MatMul", x, weights(f"{name}.weight", outputs, inputs).T)
        return g("Add", product, weights(f"{name}.bias", outputs))

    def norm(x, name):
        scale, shift = (weights(f"{name}.{part}", dim) for part in ("weight", "bias"))
        return g("LayerNormalization", x, scale, shift, axis=-1, epsilon=1e-12)

    words = g("Gather", weights("embeddings.word_embeddings.weight", c["vocab_size"], dim), "input_ids")
    table = weights("embeddings.position_embeddings.weight", c["max_position_embeddings"], dim)
    length = g("Shape", "input_ids", start=1, end=2)
    places = g("Slice", table, np.array([0]), length, np.array([0]))
    x = norm(g("Add", words, places), "embeddings.LayerNorm")
    mask = g("Sub", np.float32(1), g("Cast", "attention_mask", to=TensorProto.FLOAT))
    mask = g("Unsqueeze", g("Mul", mask, np.float32(-1e9)), np.array([1, 2]))
    for index in range(c["n_layers"]):
        name = f"transformer.layer.{index}"
        parts = {}
        for part, order in (("q", [0, 2, 1, 3]), ("k", [0, 2, 3, 1]), ("v", [0, 2, 1, 3])):
            projected = layer(x, f"{name}.attention.{part}_lin", dim, dim)
            parts[part] = g("Transpose", g("Reshape", projected, np.array([0, 0, heads, head])), perm=order)
        scores = g("Mul", g("MatMul", parts["q"], parts["k"]), np.float32(1 / math.sqrt(head)))
        attended = g("MatMul", g("Softmax", g("Add", scores, mask), axis=-1), parts["v"])
        context = g("Reshape", g("Transpose", attended, perm=[0, 2, 1, 3]), np.array([0, 0, dim]))
        x = norm(g("Add", layer(context, f"{name}.attention.out_lin", dim, dim), x), f"{name}.sa_layer_norm")
        inner = g("Gelu", layer(x, f"{name}.ffn.lin1", dim, hidden))
        x = norm(g("Add", layer(inner, f"{name}.ffn.lin2", hidden, dim), x), f"{name}.output_layer_norm")
    output = helper.make_tensor_value_info(x, TensorProto.FLOAT, ["batch", "tokens", dim])
    inputs = [helper.make_tensor_value_info(name, TensorProto.INT64, ["batch", "tokens"])
              for name in ("input_ids", "attention_mask")]
    graph = helper.make_graph(g.nodes, "encoder", inputs, [output], g.constants)
    onnx.save(helper.make_model(graph, opset_imports=[helper.make_opsetid("", 20)], ir_version=9), path)


def time_onnxruntime(model, threads, shapes, seconds):
    """Yields the median time of each shape."""
    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads = threads
    session = onnxruntime.InferenceSession(model, options, providers=["CPUExecutionProvider"])
    for batch, tokens in shapes:
        ids = ((np.arange(batch * tokens) * 7919) % 9000 + 1000).reshape(batch, tokens).astype(np.int64)
        feed = {"input_ids": ids, "attention_mask": np.ones_like(ids)}
        for _ in range(3):
            session.run(None, feed)
        times, started = [], time.perf_counter()
        while len(times) < 5 or time.perf_counter() - started < seconds:
            before = time.perf_counter()
            session.run(None, feed)
            times.append(time.perf_counter() - before)
        yield {"peer": "onnxruntime", "precision": "int8", "threads": threads, "batch": batch, "tokens": tokens,
               "median_ms": round(statistics.median(times) * 1e3, 4)}


def time_mynah(args, threads):
    model = ["--model", str(args.model)] if args.model else ["--random", args.random]
    command = [args.mynah, "bench", "--json", "--quiet", "--threads", str(threads), "--shapes", args.shapes,
               "--seconds", str(args.seconds), *model]
    output = subprocess.run(command, check=True, stdout=subprocess.PIPE, text=True).stdout
    return [json.loads(line) for line in output.splitlines()]


def main():
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    which = parser.add_mutually_exclusive_group(required=True)
    which.add_argument("--model", type=pathlib.Path)
    which.add_argument("--random", metavar="DIMxLAYERSxHEADSxHIDDEN")
    parser.add_argument("--mynah", help="the program to compare with")
    parser.add_argument("--threads", default="1,2")
    parser.add_argument("--shapes", default="1x16,1x32,1x128,32x32")
    parser.add_argument("--seconds", type=float, default=1.0)
    parser.add_argument("--rounds", type=int, default=3)
    args = parser.parse_args()
    shapes = [tuple(int(size) for size in shape.split("x")) for shape in args.shapes.split(",")]
    medians = collections.defaultdict(list)
    with tempfile.TemporaryDirectory() as directory:
        single, int8 = (str(pathlib.Path(directory) / name) for name in ("single.onnx", "int8.onnx"))
        export(Weights(args.model, args.random), single)
        quantize_dynamic(single, int8, weight_type=QuantType.QInt8)
        for _ in range(args.rounds):
            for threads in map(int, args.threads.split(",")):
                lines = list(time_onnxruntime(int8, threads, shapes, args.seconds))
                lines += time_mynah(args, threads) if args.mynah else []
                for line in lines:
                    medians[line["threads"], line["batch"], line["tokens"], line["peer"]].append(line["median_ms"])
                    print(json.dumps(line), flush=True)
    for (threads, batch, tokens, peer), values in sorted(medians.items()):
        if args.mynah and peer == "mynah":
            ours, theirs = statistics.median(values), statistics.median(medians[threads, batch, tokens, "onnxruntime"])
            print(json.dumps({"threads": threads, "batch": batch, "tokens": tokens, "mynah_ms": round(ours, 4),
                              "onnxruntime_ms": round(theirs, 4), "ratio": round(ours / theirs, 3)}), flush=True)


if __name__ == "__main__":
    main()
