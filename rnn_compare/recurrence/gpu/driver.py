"""What is asked of NVIDIA's driver, which is there where a GPU is."""

import ctypes
import functools

import jax


class DriverError(RuntimeError):
    """The driver refused."""


@functools.cache
def library() -> ctypes.CDLL:
    """The driver's library, ready for use.

    Raises:
        OSError: there is none.
        DriverError: it finds no GPU, or refuses otherwise.
    """
    driver = ctypes.CDLL("libcuda.so.1")
    _check(driver, "cuInit", 0)
    return driver


def _check(driver: ctypes.CDLL, name: str, *arguments: object) -> None:
    if code := getattr(driver, name)(*arguments):
        text = ctypes.c_char_p()
        driver.cuGetErrorString(code, ctypes.byref(text))
        raise DriverError(f"{name}: {(text.value or b'error %d' % code).decode()}")


def architecture() -> str:
    """That of the GPUs that JAX computes on, as "sm_90"."""
    return f"sm_{jax.devices()[0].compute_capability.replace('.', '')}"


_MOST_SHARED = 8  # CU_FUNC_ATTRIBUTE_MAX_DYNAMIC_SHARED_SIZE_BYTES


def load(binary: bytes, name: str, shared: int) -> int:
    """A kernel of a cubin, for all of a process's GPUs; it is loaded on each, so that no launch has to do it.

    Args:
        binary: the cubin.
        name: the kernel's.
        shared: bytes of shared memory that it takes.

    Raises:
        OSError: there is no driver.
        DriverError: the driver refuses.
    """
    driver, loaded, kernel = library(), ctypes.c_void_p(), ctypes.c_void_p()
    _check(driver, "cuLibraryLoadData", ctypes.byref(loaded), binary, None, None, 0, None, None, 0)
    _check(driver, "cuLibraryGetKernel", ctypes.byref(kernel), loaded, name.encode())
    for device in jax.local_devices():
        context, function, number = ctypes.c_void_p(), ctypes.c_void_p(), ctypes.c_int()
        _check(driver, "cuDeviceGet", ctypes.byref(number), device.local_hardware_id)
        _check(driver, "cuDevicePrimaryCtxRetain", ctypes.byref(context), number)
        _check(driver, "cuCtxPushCurrent_v2", context)
        try:
            _check(driver, "cuKernelGetFunction", ctypes.byref(function), kernel)
            _check(driver, "cuKernelSetAttribute", _MOST_SHARED, shared, kernel, number)
        finally:
            driver.cuCtxPopCurrent_v2(ctypes.byref(context))
    return kernel.value or 0


def launcher() -> int:
    """The address of `cuLaunchKernel`."""
    return ctypes.cast(library().cuLaunchKernel, ctypes.c_void_p).value or 0
