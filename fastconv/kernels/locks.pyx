# cython: language_level=3
"""The one kind of lock in the package: it says so where a thread would wait for itself, and a fork's child gets it free.

Every lock that is alive is in one list, so that none is forgotten after a fork: a thread of the parent that held it does not
exist in the child, and would never release it there.
"""

import os
import weakref

cdef extern from "pythread.h":
    ctypedef void* PyThread_type_lock
    ctypedef enum PyLockStatus:
        PY_LOCK_FAILURE
        PY_LOCK_ACQUIRED
        PY_LOCK_INTR
    PyThread_type_lock PyThread_allocate_lock()
    void PyThread_free_lock(PyThread_type_lock)
    void PyThread_release_lock(PyThread_type_lock)
    PyLockStatus PyThread_acquire_lock_timed(PyThread_type_lock, long long microseconds, int intr_flag) nogil
    unsigned long PyThread_get_thread_ident()

cdef extern from "Python.h":
    int PyErr_CheckSignals() except -1

_live = weakref.WeakSet()


class Reentered(RuntimeError):
    """A thread would wait for itself."""


cdef class Lock:
    """A lock that a ``with`` statement holds.

    Parameters
    ----------
    what : str
        What it protects, as messages call it.

    Raises
    ------
    Reentered
        By ``with``, where this thread holds it already: a callback, a signal handler or an array's own method has called what
        it interrupts.
    """

    cdef PyThread_type_lock lock
    cdef unsigned long owner  # the thread that holds it; 0: none. Only who holds it writes it.
    cdef readonly str what
    cdef object __weakref__

    def __cinit__(self, str what):
        self.lock = PyThread_allocate_lock()
        if self.lock == NULL:
            raise MemoryError("no memory for a lock")
        self.what = what
        _live.add(self)

    def __dealloc__(self):
        if self.lock != NULL:
            PyThread_free_lock(self.lock)

    @property
    def mine(self) -> bool:
        """Whether this thread holds it."""
        return self.owner == PyThread_get_thread_ident()

    def __enter__(self):
        cdef unsigned long me = PyThread_get_thread_ident()
        cdef PyLockStatus status = PyThread_acquire_lock_timed(self.lock, 0, 0)
        if status != PY_LOCK_ACQUIRED and self.owner == me:
            raise Reentered(f"{self.what}: called by what runs inside a call of it, in the same thread (a callback, a signal "
                               "handler, an array's own method), and cannot wait for itself")
        while status != PY_LOCK_ACQUIRED:
            with nogil:
                status = PyThread_acquire_lock_timed(self.lock, -1, 1)
            if status == PY_LOCK_INTR:
                PyErr_CheckSignals()  # Ctrl-C ends the waiting
        self.owner = me
        return self

    def __exit__(self, kind, value, traceback):
        self.owner = 0
        PyThread_release_lock(self.lock)

    def renew(self):
        """In the child of a fork: it is free, unless the thread that forked holds it."""
        # the old one stays where it is: what it is made of may be in any state
        self.lock = PyThread_allocate_lock()
        if self.owner == PyThread_get_thread_ident():
            PyThread_acquire_lock_timed(self.lock, 0, 0)
        else:
            self.owner = 0


def live() -> list:
    """All locks that there are."""
    return list(_live)


def _after_fork():
    for lock in live():
        lock.renew()


if hasattr(os, "register_at_fork"):
    os.register_at_fork(after_in_child=_after_fork)
