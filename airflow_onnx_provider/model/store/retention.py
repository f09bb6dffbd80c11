# SPDX-License-Identifier: Apache-2.0
"""Remove model versions that nothing needs any more, and nothing else.

A version stays if it is among the newest ones or is young, if an alias names it or did so of late, if a run manifest
names it (predictions must stay explainable), or if a version that stays was made from it.
"""

from __future__ import annotations

import json
import shutil
from collections.abc import Iterable, Mapping, Sequence
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path

from airflow_onnx_provider.exceptions import BadInputError, SparkJobError
from airflow_onnx_provider.model.store import storage
from airflow_onnx_provider.model.store.address import check_name
from airflow_onnx_provider.model.store.aliases import Aliases, Move, steps_back
from airflow_onnx_provider.model.store.claims import CLAIMS, clear_abandoned, leaving, marks
from airflow_onnx_provider.model.store.versions import RECIPES, VERSION, ModelStore, StoredVersion
from airflow_onnx_provider.runtime.manifest import MANIFEST_NAME
from airflow_onnx_provider.spark.run_manifest import read_state

ARCHIVES = "_archives"


@dataclass(frozen=True)
class Keep:
    """What stays beside what is needed.

    :param last: newest versions of the model
    :param moves: of each alias, the versions of its last so many moves, and those that so many rollbacks lead back to
    :param days: versions that were added, found by a stage or named by an alias within this time. A task may be at work
        on a version that nothing names yet, so keep this longer than any run of a DAG
    """

    last: int = 5
    moves: int = 5
    days: float = 2.0

    def __post_init__(self) -> None:
        if self.last < 0 or self.moves < 1 or self.days < 0:
            raise BadInputError(f"keep: last and days cannot be negative, moves must be at least 1; got {self}")


@dataclass(frozen=True)
class Collection:
    """What a collection removes, or would.

    :param kept: version to why it stays
    :param removed: versions, oldest first
    :param recipes: remembered results that name no version of the store any more
    :param archives: zips of removed versions
    :param leftovers: what crashed tasks left: half uploads, temporary folders
    """

    name: str
    kept: Mapping[str, str]
    removed: tuple[str, ...]
    recipes: tuple[str, ...] = ()
    archives: tuple[str, ...] = ()
    leftovers: tuple[str, ...] = ()


@dataclass(frozen=True)
class Known:
    """Everything that decides what may go.

    :param versions: oldest first
    :param parents: version to the one that it was made from
    :param moves: alias to its history
    :param runs: version to a run manifest that names it
    """

    versions: tuple[StoredVersion, ...]
    parents: Mapping[str, str]
    moves: Mapping[str, tuple[Move, ...]]
    runs: Mapping[str, str]


def reasons_to_stay(known: Known, keep: Keep, now: datetime) -> dict[str, str]:
    """Version to why it stays; what is missing may go."""
    since = now - timedelta(days=keep.days)
    stay: dict[str, str] = {}
    for alias, history in known.moves.items():
        if history:
            stay.setdefault(history[-1].version, f"{alias} names it")
    for alias, history in known.moves.items():
        later = [move.moment for move in history[1:]] + [now]
        lately = [move for move, until in zip(history, later, strict=True) if until >= since]
        for move in (*history[-keep.moves :], *steps_back(history)[: keep.moves + 1], *lately):
            stay.setdefault(move.version, f"{alias} named it of late")
    for version, run in known.runs.items():
        stay.setdefault(version, f"the run manifest {run} names it")
    for stored in known.versions[-keep.last :] if keep.last else ():
        stay.setdefault(stored.version, f"it is one of the newest {keep.last}")
    for stored in known.versions:
        if max(stored.added, stored.recorded) >= since:
            stay.setdefault(stored.version, f"it was made or used within {keep.days:g} days")
    there = {stored.version for stored in known.versions}
    for version in [version for version in stay if version in there]:
        child = version
        while (parent := known.parents.get(child)) and parent not in stay:
            stay[parent] = f"{child} was made from it"
            child = parent
    return {version: why for version, why in stay.items() if version in there}


def plan_collection(
    store: ModelStore, name: str, keep: Keep | None = None, runs: Sequence[Path | str] = ()
) -> Collection:
    """Say what :func:`collect` would remove now; nothing is changed.

    :param name: of the model
    :param runs: output folders of inference tasks, whose run manifests are read, or single run manifests
    :raises BadInputError: if a folder of runs is none or a manifest cannot be read: what it names is then not known
    """
    keep, now = keep or Keep(), datetime.now(UTC)
    home = store.root / check_name(name)
    results = _results(home)  # before the versions: a result whose version is not found then has lost it
    known = _survey(store, name, runs)
    kept = reasons_to_stay(known, keep, now)
    removed = tuple(stored.version for stored in known.versions if stored.version not in kept)
    there = {stored.version for stored in known.versions} - set(removed)
    return Collection(
        name,
        kept,
        removed,
        recipes=tuple(recipe for recipe, version in results.items() if version not in there),
        archives=tuple(zip_ for zip_ in storage.names(home / ARCHIVES) if zip_.partition("-")[0] in removed),
        leftovers=_leftovers(home, now - timedelta(days=max(keep.days, 1.0))),
    )


def collect(store: ModelStore, name: str, keep: Keep | None = None, runs: Sequence[Path | str] = ()) -> Collection:
    """Remove the versions that nothing needs, safely beside tasks that add, promote, roll back and read.

    A version that something comes to name at the same moment is either spared, or that task fails and says why. A
    version whose folder a local reader holds is spared.

    :return: what was removed, and why the rest stays
    :raises BadInputError: as :func:`plan_collection`, before anything is removed
    """
    home = store.root / check_name(name)
    clear_abandoned(home)
    wanted = plan_collection(store, name, keep, runs)
    removed: list[str] = []
    spared: dict[str, str] = {}
    with ExitStack() as announced:
        halves = [left for left in wanted.leftovers if VERSION.fullmatch(left)]
        deadlines = [announced.enter_context(leaving(home, version)) for version in (*wanted.removed, *halves)]
        claimed = marks(home, CLAIMS)  # claims first, then names: a claim that is gone by now has left its name
        plan = plan_collection(store, name, keep, runs)
        for version in wanted.removed:
            if version not in plan.removed:
                continue
            if version in claimed:
                spared[version] = "a task is about to name it"
            elif datetime.now(UTC) >= min(deadlines):
                spared[version] = "the collection took too long; the next one goes on"
            elif _discarded(home, version):
                removed.append(version)
            else:
                spared[version] = "a task is reading it"
        late = set(plan.removed) - set(wanted.removed)
        spared |= dict.fromkeys(late, "the next collection removes it")
        still = set(wanted.leftovers) & set(plan.leftovers) - set(claimed)
        leftovers = tuple(left for left in sorted(still) if _swept(home, left))
    done = replace(plan, kept={**plan.kept, **spared}, removed=tuple(removed), leftovers=leftovers)
    return _tidied(home, done, store.versions(name))


def _survey(store: ModelStore, name: str, runs: Sequence[Path | str]) -> Known:
    aliases = Aliases(store, name)
    named = _named_by_runs(runs, name)
    versions = store.stored(name)
    parents: dict[str, str] = {}
    for stored in versions:
        try:
            parent = store.manifest(f"{store.root}/{name}/{stored.version}").origin.get("parent")
        except BadInputError:  # removed meanwhile, or broken: it names nothing that could be read
            continue
        if parent:
            parents[stored.version] = str(parent)
    return Known(versions, parents, {alias: aliases.history(alias) for alias in aliases.names()}, named)


def _named_by_runs(runs: Sequence[Path | str], name: str) -> dict[str, str]:
    named: dict[str, str] = {}
    for path in _run_manifests(Path(run) for run in runs):
        try:
            model = (read_state(path) or {}).get("model") or {}  # a run that failed names none
        except SparkJobError as error:
            raise BadInputError(f"runs: {error}, so what it names is not known. Nothing was removed.") from error
        if model.get("name") == name and model.get("version"):
            named.setdefault(str(model["version"]), path.name)
    return named


def _run_manifests(runs: Iterable[Path]) -> Iterable[Path]:
    for run in runs:
        folder = run / "_runs"
        if folder.is_dir():
            yield from sorted(folder.glob("*.json"))
        elif run.is_file():
            yield run
        else:
            raise BadInputError(
                f"runs: {run} is neither a run manifest nor an output folder (it has no _runs/), so what its runs name "
                "is not known. Nothing was removed."
            )


def _results(home: storage.StorePath) -> dict[str, str]:
    """Remembered result to the version that it names."""
    found = {}
    for recipe in storage.names(home / RECIPES):
        if not recipe.endswith(".json") or recipe.startswith("."):
            continue
        try:
            address = str(json.loads(storage.read(home / RECIPES / recipe))["model"])
        except (FileNotFoundError, ValueError, KeyError, TypeError):
            continue
        model, _, version = address.rpartition("/")
        if model.rpartition("/")[2] == home.name:
            found[recipe] = version
    return found


def _leftovers(home: storage.StorePath, before: datetime) -> tuple[str, ...]:
    newest: dict[str, datetime] = {}
    files = storage.below(home)
    for path, changed in files.items():
        top, inside, _ = path.partition("/")
        half = VERSION.fullmatch(top) and f"{top}/{MANIFEST_NAME}" not in files
        if inside and (half or top.startswith(".")):
            newest[top] = max(changed, newest.get(top, changed))
    return tuple(sorted(top for top, changed in newest.items() if changed < before))


def _discarded(home: storage.StorePath, version: str) -> bool:
    try:
        storage.discard(home / version, first=MANIFEST_NAME)
    except BlockingIOError:
        return False
    except FileNotFoundError:
        pass  # another collection was first
    return True


def _swept(home: storage.StorePath, left: str) -> bool:
    if VERSION.fullmatch(left):
        return _discarded(home, left)
    if isinstance(home, Path):
        shutil.rmtree(home / left, ignore_errors=True)
    return True


def _tidied(home: storage.StorePath, done: Collection, versions: tuple[str, ...]) -> Collection:
    """Remove what is about versions that are gone."""
    results = _results(home)
    recipes = tuple(recipe for recipe in done.recipes if results.get(recipe) not in versions)
    archives = tuple(zip_ for zip_ in done.archives if zip_.partition("-")[0] in done.removed)
    for recipe in recipes:
        storage.remove(home / RECIPES / recipe)
    for zip_ in archives:
        storage.remove(home / ARCHIVES / zip_)
    return replace(done, recipes=recipes, archives=archives)
