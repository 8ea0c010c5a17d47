"""The one place that reaches into Dagster behind its public API. Pinned by pyproject, watched by a test.

`dg.build_reconstructable_job` refuses a job called `__ASSET_JOB`, though that is the job every run
from the UI or a schedule has; a run of any other name would be a stranger in the UI.
"""

from __future__ import annotations

from dagster._core.code_pointer import CustomPointer, ModuleCodePointer
from dagster._core.definitions.reconstruct import ReconstructableJob, ReconstructableRepository

IMPLICIT_ASSET_JOB = "__ASSET_JOB"


def implicit_asset_job(module: str, function: str, arguments: tuple[object, ...]) -> ReconstructableJob:
    """Return the implicit asset job of the repository that `module.function(*arguments)` returns."""
    pointer = CustomPointer(
        reconstructor_pointer=ModuleCodePointer(module, function, working_directory=None),
        reconstructable_args=list(arguments),
        reconstructable_kwargs=[],
    )
    return ReconstructableRepository(pointer).get_reconstructable_job(IMPLICIT_ASSET_JOB)
