"""Checks what a repaired wheel promises of its files: its size, what it holds and what it leaves out.

    python wheel.py fastconv-...whl
"""

import sys
import zipfile

MOST = 4_000_000  # bytes of the wheel, without the sample data: 3 MB before it had most of PyTorch's functions, and ONNX


def main():
    with zipfile.ZipFile(sys.argv[1]) as file:
        sizes = {entry.filename: entry.compress_size for entry in file.infolist()}
    data = sum(size for name, size in sizes.items() if name.endswith(".npz"))
    with open(sys.argv[1], "rb") as file:
        total = file.seek(0, 2)
    print(f"{sys.argv[1].rpartition('/')[2]}: {total} bytes, of which {data} are sample data")
    faults = [f"{total - data} bytes without sample data: more than {MOST}"] if total - data > MOST else []
    for needed in ("fastconv/py.typed", "fastconv/include/fastconv/kernels.def", "fastconv/include/fastconv/kernels.cmake",
                   "fastconv/kernels/_runtime.pxd", "fastconv/kernels/_args_conv.pxd", "fastconv/bench/conv.py",
                   "fastconv/data/samples/mnist_sample.npz"):
        if needed not in sizes:
            faults.append(f"{needed} is missing")
    faults += [f"{name} does not belong there" for name in sizes if name.endswith((".pyx", ".cpp", ".o", ".c"))
               or name.startswith(("tests/", "bench/", "docs/", "examples/"))]
    faults += ["no OpenMP runtime was bundled"] * (sum("libgomp" in name for name in sizes) != 1)
    if faults:
        raise SystemExit("\n".join(faults))


main()
