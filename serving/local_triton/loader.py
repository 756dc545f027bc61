"""Chooses the versions that our own Triton has: at its start, after a crash, and at each look at the repository."""

import asyncio
import logging
import time
from collections.abc import Callable, Iterable, Mapping
from collections.abc import Set as AbstractSet
from pathlib import Path

from labelwise.errors import LabelwiseError, RepositoryError
from labelwise.repository import TaggerVersion, VersionKey
from serving.errors import ServerUnavailable, ServingError
from serving.local_triton.control import TritonControl, UnloadableVersions
from serving.local_triton.view import TritonView
from serving.onnx_session import load_session
from serving.precision import Chooser
from serving.watching import RepositoryWatch, log_broken

logger = logging.getLogger("labelwise.triton")

_REST = 30.0  # seconds after which Triton is asked again for what it could not do, if no version is to blame


class TritonLoader:
    """Shows in `view` the versions of `repository` that Triton is to have, and tells `triton` to load them.

    A version that was taken out or replaced stays for `retire_after` seconds. `start_again` is called if nothing else
    helps Triton. `faults` are the broken versions, with the reasons; each is logged once, and tried again if its
    files change. The `chooser` chooses the graph of each version; None leaves that to Triton.
    """

    def __init__(
        self,
        repository: Path,
        view: TritonView,
        triton: TritonControl,
        start_again: Callable[[], None],
        retire_after: float,
        chooser: Chooser | None = None,
    ) -> None:
        self._view, self._triton, self._start_again, self._chooser = view, triton, start_again, chooser
        self._watch = RepositoryWatch(repository, known=())
        self._whole: set[VersionKey] = set()  # what can be loaded, as far as we know
        self.faults: dict[VersionKey, str] = {}
        self._suspects: set[VersionKey] = set()  # Triton ended during their load, perhaps for another reason
        self._retire_after = retire_after
        self._expiry: dict[VersionKey, float] = {}  # of versions that are kept for requests that began with them
        self._rest_until: dict[str, float] = {}
        self._changing = asyncio.Lock()

    @property
    def names(self) -> tuple[str, ...]:
        """The taggers that a Triton is to load when it is started."""
        return self._view.names

    async def prepare(self) -> None:
        """Show what the repository holds to a Triton that is not started yet. It finds out itself what it can load."""
        async with self._changing:
            await self._look(is_tried=False)
            for name in sorted({name for name, _ in self._whole}):
                await self._show(name)

    async def leave_out(self, failed: Mapping[VersionKey, str]) -> bool:
        """Stop showing the versions that Triton `failed` to load at its start. Returns False if none was shown.

        At a start, one of them takes all versions of its tagger with it, and Triton may hang.
        """
        async with self._changing:
            shown = [key for key in sorted(failed) if key[1] in self._view.versions(key[0])]
            for key in shown:
                self._mark_broken(key, failed[key])
            for name in sorted({name for name, _ in shown}):
                await self._show(name)
            return bool(shown)

    async def reload(self) -> None:
        """Look at the repository once, and have Triton do what follows from it."""
        if not await self._triton.is_live():  # it is being started again, with what the view shows
            return
        async with self._changing:
            new = await self._look(is_tried=True)
            for name in sorted({*self._view.names, *(name for name, _ in new)}):
                fresh = _numbers(new, name)
                if fresh or self._rest_until.get(name, 0) < time.monotonic():
                    try:
                        await self._settle(name, fresh)
                    except (OSError, RepositoryError) as error:
                        reason = getattr(error, "strerror", None) or error
                        self._give_up(name, fresh, f"Triton's copy of it cannot be made: {reason}")

    async def _look(self, *, is_tried: bool) -> set[VersionKey]:
        """Learn what the repository holds by now. Returns the versions that are new, or new again, and whole."""
        look = await asyncio.to_thread(self._watch.look)
        self._whole -= look.retired(self._whole)  # before the new ones count: they have to load first
        self.faults |= look.broken
        new = {version.key for version in look.new if await self._can_run(version, is_tried)}
        self._whole |= new
        return new

    async def _can_run(self, version: TaggerVersion, is_tried: bool) -> bool:
        """Look for what may kill or hang a Triton (2.51 did both): a missing program, a graph that does not load."""
        self.faults.pop(version.key, None)
        try:
            await asyncio.to_thread(self._view.require_programs, *version.key)
            if self._chooser:
                version, _ = await asyncio.to_thread(self._chooser.choose, version)
                self._view.run(version.key, version.weights.name)
            if is_tried:
                await asyncio.to_thread(load_session, version, 1)
        except RepositoryError as error:
            self._mark_broken(version.key, str(error))
            return False
        return True

    async def _show(self, name: str) -> None:
        """Show the versions of a tagger that are wanted or held, and are not broken. Triton is not told."""
        whole = _numbers(self._whole, name)
        held = self._view.versions(name) - _numbers(self.faults, name)
        versions = await asyncio.to_thread(self._view.wanted, name, whole) | held
        if versions:
            await asyncio.to_thread(self._view.build, name, versions, whole, frozenset())
        self._view.exchange(name)
        await asyncio.to_thread(self._view.discard, name)

    async def _settle(self, name: str, new: set[int]) -> None:
        """Have Triton load or unload versions of a tagger, if it has to. Raises OSError or RepositoryError."""
        whole, shown = _numbers(self._whole, name), self._view.versions(name)
        wanted = await asyncio.to_thread(self._view.wanted, name, whole)
        now = time.monotonic()
        held = frozenset(number for number in shown - wanted if now <= self._expiry.get((name, number), float("inf")))
        if not wanted | held:
            await self._unload(name)
        elif wanted | held != shown or new & wanted or await asyncio.to_thread(self._view.is_outdated, name, whole):
            await asyncio.to_thread(self._view.build, name, wanted | held, whole, new)
            await self._load(name, (wanted - shown) | (wanted & new))
        self._expiry = {key: until for key, until in self._expiry.items() if key[0] != name or key[1] in held}
        for number in held:
            self._expiry.setdefault((name, number), time.monotonic() + self._retire_after)

    async def _load(self, name: str, new: frozenset[int]) -> None:
        """Have Triton load what was built; if it cannot, what it had before."""
        self._view.exchange(name)
        keys = {(name, number) for number in new}
        try:
            await self._triton.load(name)
            self._suspects -= keys
        except ServingError as error:
            self._view.exchange(name)
            if keys and isinstance(error, ServerUnavailable) and not keys & self._suspects:
                self._suspects |= keys  # tried again as soon as Triton lives, and guilty if it ends again
            else:
                self._give_up(name, self._guilty(name, new, error), str(error))
            await self._restore(name)
        await asyncio.to_thread(self._view.discard, name)

    def _guilty(self, name: str, new: frozenset[int], error: ServingError) -> AbstractSet[int]:
        """Returns the versions that made the load fail: those that Triton names, or the likeliest.

        New versions have run here before. One that was loaded may have been overwritten in place since.
        """
        shown = self._view.versions(name)
        named = error.numbers - shown if isinstance(error, UnloadableVersions) else frozenset()
        return named or shown & _numbers(self.faults, name) or new

    async def _restore(self, name: str) -> None:
        """Have Triton load what is shown: after a load that failed it has some parts of a tagger and lacks others."""
        try:
            if self._view.versions(name) & _numbers(self.faults, name):
                await self._show(name)
            await (self._triton.load(name) if name in self._view.names else self._triton.unload(name))
        except (LabelwiseError, OSError):
            self._start_again()

    async def _unload(self, name: str) -> None:
        try:
            await self._triton.unload(name)
        except ServingError as error:
            self._give_up(name, set(), str(error))
            return
        self._view.exchange(name)
        await asyncio.to_thread(self._view.discard, name)

    def _give_up(self, name: str, guilty: AbstractSet[int], reason: str) -> None:
        """Continue with the loaded versions. If no version is at fault, the same load is tried again later."""
        for number in sorted(guilty):
            self._mark_broken((name, number), reason)
        if not guilty:
            self._rest_until[name] = time.monotonic() + _REST
            logger.warning("Triton cannot change the versions that it has of %s: %s", name, reason)

    def _mark_broken(self, key: VersionKey, reason: str) -> None:
        self._whole.discard(key)
        if key not in self.faults:
            log_broken(key, reason)
        self.faults[key] = reason


def _numbers(keys: Iterable[VersionKey], name: str) -> set[int]:
    return {number for other, number in keys if other == name}
