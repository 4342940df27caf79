"""Compiles CUDA sources with NVRTC, NVIDIA's run-time compiler: no nvcc and no host compiler are needed.

nvrtc.py FOLDER SOURCE INCLUDES OUTPUT…: FOLDER has PyPI's nvidia-cuda-nvrtc-cu12 and nvidia-cuda-runtime-cu12,
INCLUDES are folders joined by colons, and each OUTPUT is named after what it holds: sm_90a.cubin, compute_90.ptx.
Prints what ptxas says of each kernel.
"""

import ctypes
import glob
import pathlib
import sys


def main():
    folder, source, includes, *outputs = sys.argv[1:]
    library = ctypes.CDLL(glob.glob(folder + '/nvidia/cuda_nvrtc/lib/libnvrtc.so*')[0])
    text = pathlib.Path(source).read_bytes()
    include_options = [f'-I{path}' for path in [folder + '/nvidia/cuda_runtime/include', *includes.split(':')]]
    for output in map(pathlib.Path, outputs):
        options = ['--std=c++17', f'-arch={output.stem}', '-default-device', *include_options]
        if output.suffix == '.cubin':
            options.append('--ptxas-options=-v')
        program = ctypes.c_void_p()
        created = library.nvrtcCreateProgram(
            ctypes.byref(program), text, pathlib.Path(source).name.encode(), 0, None, None
        )
        if created != 0:
            sys.exit(f'nvrtcCreateProgram failed: {created}')
        arguments = (ctypes.c_char_p * len(options))(*[option.encode() for option in options])
        status = library.nvrtcCompileProgram(program, len(options), arguments)
        if status != 0:
            sys.exit(f'{output.stem}:\n{log(library, program)}')
        print(log(library, program))
        output.write_bytes(read(library, program, 'CUBIN' if output.suffix == '.cubin' else 'PTX'))
        library.nvrtcDestroyProgram(ctypes.byref(program))


def log(library, program):
    return read(library, program, 'ProgramLog').decode().rstrip('\0')


def read(library, program, what):
    size = ctypes.c_size_t()
    getattr(library, f'nvrtcGet{what}Size')(program, ctypes.byref(size))
    buffer = ctypes.create_string_buffer(size.value)
    getattr(library, f'nvrtcGet{what}')(program, buffer)
    return buffer.raw


main()
