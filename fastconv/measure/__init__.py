"""Networks timed beside the peers: what ``fastconv bench NETWORK`` and the benchmarks of :mod:`fastconv.bench` share.

Each library has a process of its own (``peers.py``), which is given the same network and weights (``subject.py``), and
stands still while another is timed (``timing.py``). ``networks.py`` says what is timed; ``machine.py`` on what.
"""

PEERS = ("torch", "onnxruntime", "openvino")
READ_ONNX = PEERS[1:]  # what they are given is an ONNX model, and they do not train
# What each library takes for a cap on its instruction set; ONNX Runtime and OpenVINO know none.
CAPS = {
    "portable": {"ONEDNN_MAX_CPU_ISA": "SSE41", "ATEN_CPU_CAPABILITY": "default", "OPENBLAS_CORETYPE": "Nehalem",
                 "MKL_ENABLE_INSTRUCTIONS": "SSE4_2"},
    "avx2": {"ONEDNN_MAX_CPU_ISA": "AVX2", "ATEN_CPU_CAPABILITY": "avx2", "OPENBLAS_CORETYPE": "Haswell",
             "MKL_ENABLE_INSTRUCTIONS": "AVX2"},
    "avx512": {"ONEDNN_MAX_CPU_ISA": "AVX512_CORE", "ATEN_CPU_CAPABILITY": "avx512", "OPENBLAS_CORETYPE": "SkylakeX",
               "MKL_ENABLE_INSTRUCTIONS": "AVX512"},
}
CAPS |= {"avx512_bf16": {**CAPS["avx512"], "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_BF16"},
         "amx": {**CAPS["avx512"], "ONEDNN_MAX_CPU_ISA": "AVX512_CORE_AMX"}}
