"""The methods by name."""

from __future__ import annotations

from typing import Annotated

import pytest
from pydantic import Field

from adjobs import methods
from adjobs.errors import JobError
from adjobs.methods.contract import MethodConfig, PathParam


@pytest.mark.parametrize("function", [methods.spec, methods.config_class, methods.presets, methods.path_params, methods.card])
def test_unknown_method_is_refused_with_a_suggestion(function):
    with pytest.raises(JobError, match=r"^unknown method 'cd'; available: .*cdo.*; did you mean 'cdo'\?$"):
        function("cd")


def test_load_unknown_method_is_refused():
    with pytest.raises(JobError, match="unknown method 'x'"):
        methods.load("x")


def test_path_params_are_those_marked_in_the_config():
    assert methods.path_params("cdo") == {"weights": PathParam(("auto", "packaged", "timm", "none"))}
    assert methods.path_params("slsg")["textures"] == PathParam(("drawn",))


def test_path_params_other_constraints_do_not_matter(monkeypatch):
    class Config(MethodConfig):
        folder: Annotated[str | None, PathParam()] = None
        file: Annotated[str, PathParam(("none",))] = Field("none", min_length=1)
        steps: int = Field(1, ge=1)

    monkeypatch.setattr(methods, "config_class", lambda name: Config)
    assert methods.path_params("any") == {"folder": PathParam(), "file": PathParam(("none",))}


def test_map_param_hint_names_the_parameter_that_turns_maps_on():
    assert methods.map_param_hint("liac") == " without params.heat_map: true"
    assert methods.map_param_hint("cdo") == ""
    assert [methods.gives_map("liac", {"heat_map": value}) for value in (False, True)] == [False, True]
