# SPDX-License-Identifier: MIT
"""Other runtimes for `just bench-host`: makes their int8 models by their own tools, and times them.

    peers.py make NAME FOLDER                    NAME: a model of timm, with random weights
    peers.py time RUNTIME FILE THREADS BATCH     for each line on stdin, a call: its JSON on stdout

Runs in an environment of its own, which has onnxruntime, openvino and nncf, and sees torch and timm of the project's.
"""

import json
import resource
import sys
import time
from collections.abc import Callable
from pathlib import Path
from typing import Any

SIDE, CHANNELS, CALIBRATION = 224, 3, 8


def make(name: str, folder: Path) -> None:
    """Write NAME.onnx, NAME.int8.onnx (onnxruntime) and NAME.int8.xml (OpenVINO) into a folder."""
    import numpy as np
    import openvino
    import timm
    import torch
    from nncf import Dataset, ModelType, quantize
    from onnxruntime.quantization import CalibrationDataReader, QuantFormat, QuantType, quantize_static
    from onnxruntime.quantization.shape_inference import quant_pre_process

    torch.manual_seed(0)
    rng = np.random.default_rng(0)
    pictures = [rng.standard_normal((1, CHANNELS, SIDE, SIDE)).astype(np.float32) for _ in range(CALIBRATION)]
    plain = folder / f"{name}.onnx"
    timm.layers.set_fused_attn(False)
    model = timm.create_model(name, pretrained=False).eval()
    names: dict[str, Any] = {
        "input_names": ["x"],
        "output_names": ["y"],
        "dynamic_axes": {"x": {0: "n"}, "y": {0: "n"}},
    }
    torch.onnx.export(model, torch.from_numpy(pictures[0]), str(plain), dynamo=False, opset_version=17, **names)

    class Reader(CalibrationDataReader):
        """Calibration pictures in turn."""

        def __init__(self) -> None:
            self.left = iter(pictures)

        def get_next(self) -> "dict[str, np.ndarray] | None":
            picture = next(self.left, None)
            return None if picture is None else {"x": picture}

    prepared = folder / f"{name}.prepared.onnx"
    quant_pre_process(str(plain), str(prepared), skip_symbolic_shape=True)
    types = {"weight_type": QuantType.QInt8, "activation_type": QuantType.QUInt8, "per_channel": True}
    quantize_static(str(prepared), str(folder / f"{name}.int8.onnx"), Reader(), quant_format=QuantFormat.QDQ, **types)
    quantized = quantize(openvino.convert_model(str(plain)), Dataset(pictures), model_type=ModelType.TRANSFORMER)
    openvino.save_model(quantized, str(folder / f"{name}.int8.xml"))


def onnxruntime_call(file: str, threads: int, batch: int) -> Callable[[], Any]:
    """A function that computes a batch."""
    import numpy as np
    import onnxruntime

    options = onnxruntime.SessionOptions()
    options.intra_op_num_threads, options.inter_op_num_threads = threads, 1
    session = onnxruntime.InferenceSession(file, options, providers=["CPUExecutionProvider"])
    pictures = np.random.default_rng(0).standard_normal((batch, CHANNELS, SIDE, SIDE)).astype(np.float32)
    return lambda: session.run(None, {"x": pictures})


def openvino_call(file: str, threads: int, batch: int) -> Callable[[], Any]:
    """A function that computes a batch: batch 1 for least time, others for most pictures, a stream for each thread."""
    import numpy as np
    import openvino

    core = openvino.Core()
    model = core.read_model(file)
    pictures = np.random.default_rng(0).standard_normal((batch, CHANNELS, SIDE, SIDE)).astype(np.float32)
    settings = {"INFERENCE_NUM_THREADS": threads, "INFERENCE_PRECISION_HINT": "f32"}
    if batch == 1:
        compiled = core.compile_model(model, "CPU", settings | {"PERFORMANCE_HINT": "LATENCY"})
        request = compiled.create_infer_request()
        return lambda: request.infer({0: pictures})
    compiled = core.compile_model(model, "CPU", settings | {"PERFORMANCE_HINT": "THROUGHPUT", "NUM_STREAMS": threads})
    queue = openvino.AsyncInferQueue(compiled, threads)

    def call() -> None:
        for picture in pictures:
            queue.start_async({0: picture[None]})
        queue.wait_all()

    return call


CALLS = {"onnxruntime": onnxruntime_call, "openvino": openvino_call}


def used() -> tuple[float, int]:
    """Seconds of processor time and peak bytes of this process."""
    usage = resource.getrusage(resource.RUSAGE_SELF)
    return usage.ru_utime + usage.ru_stime, usage.ru_maxrss * 1024


def answer(call: Callable[[], Any], usage: Callable[[], tuple[float, int]] = used) -> None:
    """Serve: a call for each line on stdin; its wall and processor time in ms, peak memory in bytes."""
    call()
    print("ready", flush=True)
    for _ in sys.stdin:
        before, start = usage()[0], time.perf_counter()
        call()
        seconds = time.perf_counter() - start
        cpu, peak = usage()
        print(json.dumps({"ms": seconds * 1000, "cpu_ms": (cpu - before) * 1000, "peak_bytes": peak}), flush=True)


if __name__ == "__main__":
    if sys.argv[1] == "make":
        make(sys.argv[2], Path(sys.argv[3]))
    else:
        answer(CALLS[sys.argv[2]](sys.argv[3], int(sys.argv[4]), int(sys.argv[5])))
