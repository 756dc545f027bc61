"""Keeping a Triton of our own in step with a repository: new versions loaded at once, old ones unloaded when unused."""

import asyncio
import logging
import time
from collections.abc import Callable

from labelwise.errors import RepositoryError
from labelwise.repository import TaggerVersion, VersionKey
from serving.errors import ServingError
from serving.local_triton.control import TritonControl, UnloadableVersions
from serving.local_triton.offer import TritonOffer
from serving.onnx_session import load_session
from serving.watching import log_broken

logger = logging.getLogger("labelwise.triton")


_REST = 30.0  # seconds after which Triton is asked again for what it could not do


class TritonLoader:
    """Has `triton` load what is published, and unload it `retire_after` seconds after it was taken out or replaced.

    It was started with what `offer` shows. `start_again` is called where nothing else helps Triton.
    """

    def __init__(
        self,
        triton: TritonControl,
        offer: TritonOffer,
        start_again: Callable[[], None],
        retire_after: float,
    ) -> None:
        self._triton, self._view, self._watch = triton, offer.view, offer.watch
        self._start_again = start_again
        self._whole = offer.whole  # what can be loaded, as far as we know
        self._retire_after = retire_after
        self._expiry: dict[VersionKey, float] = {}  # of what Triton still has for requests that began with it
        self._rest_until: dict[str, float] = {}

    async def reload(self) -> None:
        """One look at the repository, and what follows from it."""
        if not await self._triton.is_live():  # it is being started again, with what the view shows
            return
        look = await asyncio.to_thread(self._watch.look)
        self._whole -= look.retired(self._whole)  # before the new ones count: they have to load first
        new = {version.key for version in look.new if await self._can_run(version)}
        self._whole |= new
        for name in sorted({*self._view.names, *(name for name, _ in new)}):
            if _numbers(new, name) or self._rest_until.get(name, 0) < time.monotonic():
                await self._settle(name, _numbers(self._whole, name), _numbers(new, name))

    async def _can_run(self, version: TaggerVersion) -> bool:
        """Tried here first: a Triton that fails to load a version may die of it, or hang (seen with 2.51)."""
        reason = await asyncio.to_thread(self._view.missing_program, *version.key)
        try:
            await asyncio.to_thread(load_session, version, 1, cpu_only=True)
        except RepositoryError as error:
            reason = str(error)
        if reason:
            log_broken(version.key, reason)
        return reason is None

    async def _settle(self, name: str, whole: set[int], new: set[int]) -> None:
        shown = self._view.versions(name)
        wanted = await asyncio.to_thread(self._view.wanted, name, whole)
        held = frozenset(number for number in shown - wanted if not self._is_expired((name, number)))
        if not wanted | held:
            await self._unload(name)
        elif wanted | held != shown or new & wanted or await asyncio.to_thread(self._view.is_outdated, name, whole):
            await self._load(name, wanted | held, whole, new)
        self._expiry = {key: until for key, until in self._expiry.items() if key[0] != name or key[1] in held}
        for number in held:
            self._expiry.setdefault((name, number), time.monotonic() + self._retire_after)

    def _is_expired(self, key: VersionKey) -> bool:
        return self._expiry.get(key, float("inf")) < time.monotonic()

    async def _load(self, name: str, versions: frozenset[int], whole: set[int], new: set[int]) -> None:
        try:
            generation = await asyncio.to_thread(self._view.build, name, versions, whole, new)
        except OSError as error:
            self._give_up(name, new, f"Triton's copy of it cannot be made: {error.strerror}")
            return
        before = self._view.show(name, generation)
        try:
            await self._triton.load(name)
        except ServingError as error:
            self._view.show(name, before)
            guilty = error.numbers - self._view.versions(name) if isinstance(error, UnloadableVersions) else set()
            self._give_up(name, {*guilty} or new, str(error))
            if guilty:
                del self._rest_until[name]  # the others are worth a try at once
            await self._restore(name)
            before = generation
        await asyncio.to_thread(self._view.discard, before)

    async def _restore(self, name: str) -> None:
        """A load that failed leaves parts of a tagger loaded and others not."""
        try:
            await (self._triton.load(name) if name in self._view.names else self._triton.unload(name))
        except ServingError:
            self._start_again()

    async def _unload(self, name: str) -> None:
        try:
            await self._triton.unload(name)
        except ServingError as error:
            self._give_up(name, set(), str(error))
            return
        await asyncio.to_thread(self._view.discard, self._view.show(name, None))

    def _give_up(self, name: str, new: set[int], reason: str) -> None:
        """New versions are not tried again until they change; the rest is, after a while. What is loaded stays."""
        self._rest_until[name] = time.monotonic() + _REST
        self._whole -= {(name, number) for number in new}
        for number in new:
            log_broken((name, number), reason)
        if not new:
            logger.warning("Triton cannot change what it has of %s: %s", name, reason)


def _numbers(keys: set[VersionKey], name: str) -> set[int]:
    return {number for other, number in keys if other == name}
