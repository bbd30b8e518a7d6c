"""libbpf by ctypes: an object file becomes programs and maps in the kernel; maps are read.

Raises BpfError with what the library and the verifier said.
"""

from __future__ import annotations

import ctypes
import errno
import mmap
import os
from collections.abc import Iterator, Mapping, Sequence
from functools import cache
from pathlib import Path

from collectors.bpf.translate import Wide
from collectors.errors import CaptureError

SCHED_CLS, SOCKET_FILTER = 3, 1
"""BPF_PROG_TYPE_*"""

_LOG_SIZE = 1 << 16
_OTHERWISE = "measure by sampled packets instead"
_Print = ctypes.CFUNCTYPE(ctypes.c_int, ctypes.c_int, ctypes.c_char_p, ctypes.c_void_p)


class BpfError(CaptureError):
    """The kernel or libbpf refused a program or a map."""


class _LoadOptions(ctypes.Structure):
    """struct bpf_prog_load_opts of libbpf 1.0, of which a prefix may be given."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("attempts", ctypes.c_int),
        ("expected_attach_type", ctypes.c_int),
        ("prog_btf_fd", ctypes.c_uint32),
        ("prog_flags", ctypes.c_uint32),
        ("prog_ifindex", ctypes.c_uint32),
        ("kern_version", ctypes.c_uint32),
        ("attach_btf_id", ctypes.c_uint32),
        ("attach_prog_fd", ctypes.c_uint32),
        ("attach_btf_obj_fd", ctypes.c_uint32),
        ("fd_array", ctypes.c_void_p),
        ("func_info", ctypes.c_void_p),
        ("func_info_cnt", ctypes.c_uint32),
        ("func_info_rec_size", ctypes.c_uint32),
        ("line_info", ctypes.c_void_p),
        ("line_info_cnt", ctypes.c_uint32),
        ("line_info_rec_size", ctypes.c_uint32),
        ("log_level", ctypes.c_uint32),
        ("log_size", ctypes.c_uint32),
        ("log_buf", ctypes.c_char_p),
    )


class _MapOptions(ctypes.Structure):
    """struct bpf_map_create_opts of libbpf 1.0, of which a prefix may be given."""

    _fields_ = (
        ("sz", ctypes.c_size_t),
        ("btf_fd", ctypes.c_uint32),
        ("btf_key_type_id", ctypes.c_uint32),
        ("btf_value_type_id", ctypes.c_uint32),
        ("btf_vmlinux_value_type_id", ctypes.c_uint32),
        ("inner_map_fd", ctypes.c_uint32),
        ("map_flags", ctypes.c_uint32),
        ("map_extra", ctypes.c_uint64),
        ("numa_node", ctypes.c_uint32),
        ("map_ifindex", ctypes.c_uint32),
    )


@cache
def _libbpf() -> ctypes.CDLL:
    """Raises BpfError where it is not installed."""
    try:
        library = ctypes.CDLL("libbpf.so.1", use_errno=True)
    except OSError as error:
        raise BpfError(
            f"libbpf.so.1 is not there: {error}", "install it; Debian has it in the package libbpf1"
        ) from error
    pointer, number, text = ctypes.c_void_p, ctypes.c_int, ctypes.c_char_p
    size = ctypes.c_size_t
    for name, result, arguments in (
        ("bpf_object__open_mem", pointer, (text, size, pointer)),
        ("bpf_object__load", number, (pointer,)),
        ("bpf_object__close", None, (pointer,)),
        ("bpf_object__find_program_by_name", pointer, (pointer, text)),
        ("bpf_object__find_map_by_name", pointer, (pointer, text)),
        ("bpf_program__fd", number, (pointer,)),
        ("bpf_program__set_autoload", number, (pointer, ctypes.c_bool)),
        ("bpf_raw_tracepoint_open", number, (text, number)),
        ("bpf_map__fd", number, (pointer,)),
        ("bpf_map__set_max_entries", number, (pointer, ctypes.c_uint32)),
        ("bpf_prog_load", number, (number, text, text, pointer, size, pointer)),
        ("bpf_map_create", number, (number, text, ctypes.c_uint32, ctypes.c_uint32, ctypes.c_uint32, pointer)),
        ("bpf_map_freeze", number, (number,)),
        ("bpf_map_lookup_elem", number, (number, text, text)),
        ("bpf_map_update_elem", number, (number, text, text, ctypes.c_uint64)),
        ("bpf_map_delete_elem", number, (number, text)),
        ("bpf_map_get_next_key", number, (number, text, text)),
        ("libbpf_num_possible_cpus", number, ()),
    ):
        function = getattr(library, name)
        function.restype, function.argtypes = result, arguments
    library.libbpf_set_print(None)  # what goes wrong is in our error, not on standard error
    return library


def _checked(result: int, what: str) -> int:
    """Raises BpfError for a negative result of libbpf."""
    if result < 0:
        number = -result if result != -1 else ctypes.get_errno()
        denied = number in (errno.EPERM, errno.EACCES)
        hint = "run it as root, or with CAP_BPF, CAP_PERFMON and CAP_NET_ADMIN" if denied else _OTHERWISE
        raise BpfError(f"{what}: {os.strerror(number)}", hint, errno=number)
    return result


def processors() -> int:
    """How many sets of values a map for each processor has."""
    return _checked(_libbpf().libbpf_num_possible_cpus(), "counting processors")


def make_map(kind: int, name: str, entries: Sequence[tuple[bytes, bytes]], *, flags: int = 0) -> int:
    """The descriptor of a map that holds these entries and can be changed no more; the caller closes it.

    Raises BpfError.
    """
    library = _libbpf()
    key_size, value_size = map(len, entries[0])
    options = _MapOptions(sz=ctypes.sizeof(_MapOptions), map_flags=flags)
    made = library.bpf_map_create(kind, name.encode(), key_size, value_size, len(entries), ctypes.byref(options))
    fd = _checked(made, f"making the map {name}")
    try:
        for key, value in entries:
            _checked(library.bpf_map_update_elem(fd, key, value, 0), f"filling the map {name}")
        _checked(library.bpf_map_freeze(fd), f"freezing the map {name}")
    except BaseException:
        os.close(fd)
        raise
    return fd


class Map:
    """A map in the kernel, by its descriptor; it belongs to its object."""

    def __init__(self, fd: int, *, value_size: int) -> None:
        self.fd = fd
        self._size = value_size

    def __getitem__(self, key: int) -> bytes:
        """The value at a 32-bit key. Raises BpfError."""
        value = ctypes.create_string_buffer(self._size)
        _checked(_libbpf().bpf_map_lookup_elem(self.fd, key.to_bytes(4, "little"), value), "reading a map")
        return value.raw

    def __setitem__(self, key: int, value: bytes) -> None:
        """Raises BpfError."""
        assert len(value) == self._size
        _checked(_libbpf().bpf_map_update_elem(self.fd, key.to_bytes(4, "little"), value, 0), "writing a map")

    def items(self, key_size: int) -> Iterator[tuple[bytes, bytes]]:
        """What a hash holds; what comes and goes meanwhile may be missing."""
        library, key, value = _libbpf(), None, ctypes.create_string_buffer(self._size)
        following = ctypes.create_string_buffer(key_size)
        while library.bpf_map_get_next_key(self.fd, key, following) == 0:
            key = following.raw
            if library.bpf_map_lookup_elem(self.fd, key, value) == 0:
                yield key, value.raw

    def remove(self, key: bytes) -> bool:
        """Whether it was there."""
        return bool(_libbpf().bpf_map_delete_elem(self.fd, key) == 0)

    def view(self, length: int) -> memoryview:
        """The whole of a mappable array as 64-bit words, which change as the kernel counts."""
        pages = -(-length // mmap.PAGESIZE) * mmap.PAGESIZE
        return memoryview(mmap.mmap(self.fd, pages, mmap.MAP_SHARED, mmap.PROT_READ | mmap.PROT_WRITE)).cast("Q")


class Object:
    """An object file loaded into the kernel: programs by name, maps by name. `close()` it."""

    def __init__(self, path: Path, *, entries: Mapping[str, int], without: Sequence[str] = ()) -> None:
        """`entries` gives maps their sizes; programs in `without` are not loaded. Raises BpfError."""
        library = _libbpf()
        content = path.read_bytes()
        self._object = library.bpf_object__open_mem(content, len(content), None)
        if not self._object:
            raise BpfError(
                f"{path.name} cannot be read: {os.strerror(ctypes.get_errno())}", "install the project again"
            )
        try:
            for name, count in entries.items():
                _checked(library.bpf_map__set_max_entries(self._map(name), count), f"sizing the map {name}")
            for name in without:
                _checked(library.bpf_program__set_autoload(self._program(name), False), f"leaving out {name}")
            _checked(library.bpf_object__load(self._object), f"loading {path.name}")
        except BaseException:
            self.close()
            raise

    def _map(self, name: str) -> int:
        found: int | None = _libbpf().bpf_object__find_map_by_name(self._object, name.encode())
        if not found:
            raise BpfError(f"there is no map {name}", "install the project again")
        return found

    def map(self, name: str, *, value_size: int) -> Map:
        """Raises BpfError where there is none."""
        return Map(_libbpf().bpf_map__fd(self._map(name)), value_size=value_size)

    def _program(self, name: str) -> int:
        found: int | None = _libbpf().bpf_object__find_program_by_name(self._object, name.encode())
        if not found:
            raise BpfError(f"there is no program {name}", "install the project again")
        return found

    def program(self, name: str) -> int:
        """Its descriptor. Raises BpfError where there is none."""
        return int(_libbpf().bpf_program__fd(self._program(name)))

    def close(self) -> None:
        """Lets go of programs and maps; those that a filter or a socket uses stay with it."""
        if self._object:
            _libbpf().bpf_object__close(self._object)
            self._object = None


def trace(tracepoint: str, program: int) -> int:
    """Runs a program of that descriptor at a tracepoint of the kernel until what is given back is closed.

    Raises BpfError.
    """
    opened = _libbpf().bpf_raw_tracepoint_open(tracepoint.encode(), program)
    return _checked(opened, f"attaching to the tracepoint {tracepoint}")


def load_program(instructions: Sequence[Wide], *, kind: int, name: str) -> int:
    """The descriptor of a program in the kernel; the caller closes it. Raises BpfError with the verifier's words."""
    code = b"".join(one.packed() for one in instructions)
    log = ctypes.create_string_buffer(_LOG_SIZE)
    library = _libbpf()
    for level in (0, 1):  # a long program's log fills any buffer, and then a right program is refused
        options = _LoadOptions(sz=ctypes.sizeof(_LoadOptions), log_level=level)
        if level:
            options.log_buf, options.log_size = ctypes.cast(log, ctypes.c_char_p), _LOG_SIZE
        made = int(
            library.bpf_prog_load(kind, name.encode(), b"Apache-2.0", code, len(instructions), ctypes.byref(options))
        )
        if made >= 0:
            return made
    said = log.value.decode(errors="replace").strip().splitlines()
    reason = next((line for line in reversed(said) if not line.startswith("processed")), "")
    return _checked(made, f"loading the program {name}" + (f" ({reason})" if reason else ""))
