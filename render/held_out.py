"""Test sets are held out: no training spec may share seeds, files or scenes with them.

What a clip shows follows from the seed of its spec, its number and the files that are named; so a spec with
the seed of a test set can draw that set's very scenes, and one with its files shows its very objects. Assets
of the library that are kept for tests are for corpora that have nothing but clips to test on.
"""

from __future__ import annotations

import hashlib
from collections.abc import Mapping

from focuspull.render.assets import PREFIX, is_for_tests
from focuspull.render.corpus import CorpusSpec, LoadedCorpus, load_corpus, shipped_specs
from focuspull.render.ledger import named_files
from focuspull.render.randomize import randomize

TEST = "test"
"""The split that marks a test set."""
MAX_CLIPS = 200
"""Of a spec whose scenes are compared: all of a test set. Drawing a scene may take a quarter of a second, and
specs of other seeds share one only where it is written out, which shows in the first."""


def shipped_test_sets() -> dict[str, LoadedCorpus]:
    """Shipped specs that have clips to test on."""
    loaded = {name: load_corpus(name) for name in shipped_specs()}
    return {name: corpus for name, corpus in loaded.items() if TEST in corpus.spec.splits}


def held_out_problems(corpus: LoadedCorpus, tests: Mapping[str, LoadedCorpus]) -> list[str]:
    """What a spec shares with test sets.

    Args:
        corpus: To train on.
        tests: Test sets, by name.

    Returns:
        One line for each: seed, file, scene. Nothing for a spec that is one of the test sets itself.
    """
    if any(corpus.spec == test.spec for test in tests.values()):
        return []
    names = {sha256: name for name, sha256 in named_files(corpus.spec.model_dump(mode="json"))}
    problems: list[str] = []
    if set(corpus.spec.splits) != {TEST}:
        kept = sorted(name for name in set(names.values()) if is_for_tests(name))
        problems += [f"{corpus.spec.name}: {name} is kept for tests. Leave it out." for name in kept]
    own = _scenes(corpus.spec)
    for name, test in tests.items():
        spec = corpus.spec.name
        if corpus.spec.seed == test.spec.seed:
            problems.append(f"{spec}: seed {corpus.spec.seed} is that of the test set {name}. Take another.")
        for digest in sorted(set(corpus.files) & set(test.files)):
            file = names[digest] if names[digest].startswith(PREFIX) else corpus.files[digest].name
            problems.append(f"{spec}: file {file} is in the test set {name}. Leave it out.")
        shared = [(own[digest], number) for digest, number in _scenes(test.spec).items() if digest in own]
        if shared:
            problems.append(
                f"{spec}: shares {len(shared)} scenes with the test set {name}, the first is that of clip "
                f"{shared[0][0]}, there {shared[0][1]}. Take another seed."
            )
    return problems


def _scenes(spec: CorpusSpec) -> dict[str, int]:
    """Clip numbers by the hash of the world that a clip shows."""
    worlds = (randomize(spec, index).world for index in range(min(spec.num_clips, MAX_CLIPS)))
    return {hashlib.sha256(world.model_dump_json().encode()).hexdigest(): i for i, world in enumerate(worlds)}
