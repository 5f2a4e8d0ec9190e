"""What is known of the teacher before anything runs: its shape, from its config.json, and that its parts fit together.

    known = look(recipe.teacher, imported=run.specs["import-teacher"].folder)
    known.shape.parameters()

No byte of weights is read. The config.json of a folder lies there; one on the hub is fetched, unless the teacher is
imported already or is one that its family knows. A model that is none of ours is refused by what it is.
"""

from dataclasses import dataclass
from pathlib import Path

from nemo_distill import families
from nemo_distill.config.teacher import FOLDER, Teacher
from nemo_distill.data.models import model_config
from nemo_distill.data.vocabulary import check_vocabulary
from nemo_distill.errors import PassingError, UserError
from nemo_distill.families.checkpoint import shape_in
from nemo_distill.nemotron_h.shape import Shape


@dataclass(frozen=True, kw_only=True)
class Known:
    """What is known of a teacher."""

    name: str
    """What it is called: a hub id, its folder, or `package:PATH`."""
    shape: Shape | None
    """Its sizes; None where its config.json cannot be had now."""
    why_not: str = ""
    """The sentence on why it cannot."""

    @property
    def in_words(self) -> str:
        """What it is, in a line."""
        if self.shape is None:
            return f"Teacher: {self.name}. Its config.json cannot be read now: {self.why_not}"
        parameters = self.shape.parameters()
        size = f"{parameters / 1e9:.3f}B" if parameters >= 1e8 else f"{parameters / 1e6:.3f}M"
        return f"Teacher: {self.name}, {size} parameters in {self.shape.num_layers} layers"


def look(teacher: Teacher, *, imported: Path) -> Known:
    """What is known of `teacher`, which the step with the folder `imported` imports.

    Raises `UserError` for a model that cannot be a teacher, and for one that is not there.
    """
    if not teacher.on_hub:
        folder = Path(teacher.path)
        shape = shape_in(model_config(teacher.path), f"teacher={teacher.path}")
        check_vocabulary(folder, shape.vocab_size, f"teacher={teacher.path}")
        return Known(name=teacher.path if teacher.checkpoint == FOLDER else teacher.checkpoint, shape=shape)
    if (imported / "shape.json").is_file():
        return Known(name=teacher.path, shape=Shape.load(imported / "shape.json"))
    if known := families.published(teacher.path):
        return Known(name=teacher.path, shape=known)
    try:
        config = model_config(teacher.path)
    except PassingError as error:
        return Known(name=teacher.path, shape=None, why_not=str(error))
    except UserError as error:
        raise UserError(f"teacher={teacher.path} is no folder here, and {error}") from None
    return Known(name=teacher.path, shape=shape_in(config, f"teacher={teacher.path}"))
