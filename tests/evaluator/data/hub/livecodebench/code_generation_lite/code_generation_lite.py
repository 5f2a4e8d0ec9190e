"""Loads the problems of a release, as the data set whose name this folder has does, for tests without a network."""

import json

import datasets

TEXTS = ("question_title", "question_content", "platform", "question_id", "contest_id", "contest_date")
FEATURES = (*TEXTS, "starter_code", "difficulty", "public_test_cases", "private_test_cases", "metadata")


class Release(datasets.BuilderConfig):
    """A release, by its tag."""

    def __init__(self, version_tag: str = "release_v6", **rest):
        super().__init__(name=version_tag, **rest)
        self.version_tag = version_tag


class CodeGenerationLite(datasets.GeneratorBasedBuilder):
    """All problems, whatever the release."""

    BUILDER_CONFIG_CLASS = Release

    def _info(self) -> datasets.DatasetInfo:
        return datasets.DatasetInfo(features=datasets.Features({name: datasets.Value("string") for name in FEATURES}))

    def _split_generators(self, manager) -> list:
        return [datasets.SplitGenerator("test", gen_kwargs={"path": manager.download("test6.jsonl")})]

    def _generate_examples(self, path: str):
        with open(path, encoding="utf-8") as file:
            yield from enumerate(map(json.loads, file))
