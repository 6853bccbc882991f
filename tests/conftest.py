"""Check every annotated shape and dtype of the mathematics while the tests run."""

from jaxtyping import install_import_hook

install_import_hook(["darts_gdas.nets", "darts_gdas.search"], "beartype.beartype")
