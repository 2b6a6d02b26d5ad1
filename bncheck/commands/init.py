"""bncheck init: a configuration to start from."""

from __future__ import annotations

from pathlib import Path

from bncheck import console
from bncheck.configuration import files
from bncheck.errors import BncheckError

TEMPLATE = """\
# The configuration of bncheck for the models below this folder. Every line is commented out and
# shows the form of a key: take its # away to use it. Rules are named by id ("BN207"), by name
# ("dead-channels"), by prefix ("BN2") or "ALL"; bncheck rules lists them.

# Only these rules run. Without the key: all that are on by default.
#select = ["BN1", "BN2", "negative-variance"]

# Rules that do not run, and (as tables, see the end) findings that are accepted for a reason.
#ignore = ["BN7", "dead-channels"]

# Exit 1 where one of these rules could not be assessed, say the mode of a state_dict.
#require = ["BN101"]

# What the models are for: auto tells training checkpoints by their content.
#profile = "auto" # or "deploy", "train"

# Exit 1 for findings of this level and above.
#fail-on = "error" # or "warning", "info", "never"

# List infos too, and all that was not assessed.
#show = "info"

# Run the rules that are in preview too: new, and not yet trusted as the others.
#preview = true

# Whoever loads these models calls eval(), so a mode of training is no fault. Patterns begin at this
# folder, or it is true for all models.
#assume-eval = ["checkpoints/**"]

# Findings that were there before, as bncheck --write-baseline has written them.
#baseline = "bncheck-baseline.json"

# The level of what a rule finds.
#[level]
#BN301 = "error"

# The options of a rule; bncheck explain names them.
#[rules.BN207]
#threshold = 1e-4

# Findings that are accepted, as many tables as you like. They are marked and counted, and do not
# fail. Entries that nothing needs any more are reported. With such tables, a rule that should not
# run at all is one of them too: ignore above and [[ignore]] here are one list.
#[[ignore]]
#rules = ["BN207"]
#files = ["models/backbone*.pt"] # without it: all files
#layers = ["layer1.*"] # without it: all layers
#reason = "pruned on purpose"
#expires = 2099-12-31 # without it: never
"""


def init(folder: Path) -> int:
    """Write bncheck.toml into a folder; 0. Raises BncheckError where there is a configuration."""
    file = folder / files.OWN
    if existing := files.existing(folder):
        raise BncheckError(f"{existing}: is there already, and is left alone")
    try:
        with file.open("x", encoding="utf-8", newline="\n") as new:
            new.write(TEMPLATE)
    except OSError as error:
        raise BncheckError(f"{file}: cannot be written: {str(error.strerror).lower()}") from error
    console.message(f"{file}: written; a line counts once its # is gone")
    return 0
