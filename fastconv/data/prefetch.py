"""One background thread that does jobs in order.

The thread waits for jobs and not for room in a full queue: whoever takes results decides how many jobs are under way.
So a waiting thread refers to nothing but its own channel, never to the dataset or the iterator that uses it, and the
iterator's garbage collection ends the thread, whatever refers to what.
"""

import collections
import os
import threading
import weakref


class Worker:
    """Runs submitted jobs one after another in a daemon thread.

    The thread ends when `close` is called, when the Worker is garbage collected, and at interpreter exit. A Worker does
    not survive `os.fork`: see `usable`.
    """

    def __init__(self):
        self._channel = _Channel()
        thread = threading.Thread(target=_run, args=(self._channel,), name="fastconv-prefetch", daemon=True)
        weakref.finalize(self, self._channel.close)
        thread.start()

    @property
    def usable(self):
        """False in a forked child, where the thread does not exist and its lock may be held for ever."""
        return self._channel.process == os.getpid()

    def submit(self, function, *arguments):
        """Append a job; its result waits for `take`."""
        self._channel.put_job((function, arguments))

    def take(self):
        """Wait for the oldest job that has not been taken: return its result, or raise what it raised."""
        result, error = self._channel.take_result()
        if error is None:
            return result
        try:
            raise error
        finally:
            del error  # the traceback refers to this frame: without the name there is no cycle

    def close(self):
        """Drop the jobs that have not begun; the thread ends after the one under way, which is not waited for."""
        self._channel.close()


class _Channel:
    """Jobs one way, results the other."""

    def __init__(self):
        self.process = os.getpid()
        # A Condition's default lock is reentrant, and must be: a garbage collection inside put_result may run the
        # finalizer, which calls close in the same thread.
        self.changed = threading.Condition()
        self.jobs: collections.deque = collections.deque()
        self.results: collections.deque = collections.deque()
        self.closed = False

    def put_job(self, job):
        with self.changed:
            self.jobs.append(job)
            self.changed.notify_all()

    def take_job(self):
        with self.changed:
            while not self.jobs and not self.closed:
                self.changed.wait()
            return None if self.closed else self.jobs.popleft()

    def put_result(self, result):
        with self.changed:
            if not self.closed:
                self.results.append(result)
                self.changed.notify_all()

    def take_result(self):
        with self.changed:
            while not self.results:
                if self.closed:  # by another thread, while this one waits
                    raise RuntimeError("the background thread was closed while a result was waited for")
                self.changed.wait(1.0)  # Python does not see a signal that comes just before it waits until it has waited
            return self.results.popleft()

    def close(self):
        if self.process != os.getpid():
            return
        with self.changed:
            self.closed = True
            self.jobs.clear()
            self.results.clear()
            self.changed.notify_all()


def _run(channel):
    while (job := channel.take_job()) is not None:
        function, arguments = job
        try:
            result: tuple = (function(*arguments), None)
        except BaseException as error:  # SystemExit too: it is the consumer who decides what to do with it
            result = (None, error)
        channel.put_result(result)
        # Nothing of the job may stay alive while this thread waits for the next one.
        del job, function, arguments, result
