"""Compiles against the installed fastconv: its .pxd files are found by their package, its headers by get_include().

    pip install 'setuptools>=70' 'cython>=3.1'       # beside fastconv
    pip install --no-build-isolation ./examples/cython && python -m channel_pool
"""

from Cython.Build import cythonize
from setuptools import Extension, setup

import fastconv

setup(
    packages=["channel_pool"],
    ext_modules=cythonize(
        [Extension("channel_pool._pool", ["channel_pool/_pool.pyx"], include_dirs=[fastconv.get_include()], language="c++",
                   extra_compile_args=["-std=c++17"])],
        language_level=3,
    ),
)
