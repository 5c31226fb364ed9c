"""The torch.optim.Optimizer that all six classes are."""

from __future__ import annotations

import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, TypedDict, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT, StateDict

from . import _core, checkpoints
from .routing import Named, Routing, by_pattern, is_named, named_tensors, parameters_of_module, refuse_sharded, route


class Dimensions(TypedDict, total=False):
    """Which axes of a parameter are batch, rows and columns: stacked experts [e, out, in] are
    {"batch": [0], "rows": [1], "cols": [2]}."""

    batch: list[int]
    rows: list[int]
    cols: list[int]


class Options(TypedDict, total=False):
    """Keyword arguments of every class beside its hyperparameters.

    For a whole model: `patterns` {name pattern: rule} overrides the routing, `adamw_*` are the hyperparameters of the
    parameters that go to AdamW, and `heads`, `blocks` and `dimensions` are {name pattern: value}. For groups of tensors
    the three are plain values, in each group or for all.

    heads: how many equal heads the rows of a matrix (of each of its blocks) are; a number, or one for each block.
    blocks: how many equal blocks of rows are fused in a matrix, or the list of their lengths.
    dimensions: see Dimensions; default: the first axis is rows, all others are columns.
    """

    patterns: Mapping[str, str]
    adamw_lr: float | Tensor
    adamw_betas: tuple[float, float]
    adamw_eps: float
    adamw_weight_decay: float
    heads: Any
    blocks: Any
    dimensions: Any


def defaults_of(rule: str) -> dict[str, Any]:
    """The keys of a group of this rule with the values of the one list; beta1 and beta2 of AdamW as torch's betas."""
    values = {name: value for name, value, *_ in _core.hyperparameters(rule)}
    if rule == "adamw":
        values["betas"] = (values.pop("beta1"), values.pop("beta2"))
        return {"rule": rule, **values}
    return {"rule": rule, **values, "dimensions": None, "blocks": None, "heads": None}


class LoadedState:
    """A state on its way through torch's load_state_dict, which would cast it to the parameter's type."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state


class SpectralOptimizer(Optimizer):
    """A torch.optim.Optimizer whose groups may each follow any of the six rules (key "rule" of a group).

    A step looks at all gradients of all groups first: one Inf or NaN and neither weights nor state change, and
    `skipped_steps` counts it. Parameters are float32, float64 or bfloat16; states are float64 for float64 parameters,
    else float32, under torch's names. CPU tensors are stepped by the core's own kernels with torch.get_num_threads()
    threads, tensors on other devices by ATen operations: there the exact polar factor is seven steps of Polar Express in
    float16, and a step of AdamW, Muon, NorMuon, UNorMuon or Aurora with balance odds does not wait for the device.
    """

    rule: ClassVar[str]
    routing: Routing
    """How the parameters of the model were routed; empty where the optimizer was made from tensors or groups."""
    # torch.amp.GradScaler leaves the skipping to the step, so that it is counted here.
    _step_supports_amp_scaling = True

    def __init__(
        self, params: ParamsT | nn.Module, hyperparameters: dict[str, Any], options: Mapping[str, Any]
    ) -> None:
        defaults = defaults_of(self.rule) | hyperparameters
        self._adamw = defaults_of("adamw")
        self._take_adamw_options(options, list(hyperparameters))
        self.routing = Routing()
        self._stepper = _core.Stepper()
        named: list[Named] | None = None
        if isinstance(params, nn.Module):
            named = parameters_of_module(params)
        elif isinstance(params, Tensor) or not isinstance(params, Iterable):
            raise TypeError(
                "[aurora_optim] params must be a model or a list of tensors, of named parameters or of groups, not "
                f"one {type(params).__name__}"
            )
        else:
            entries: list[Any] = list(params)
            if not entries:
                raise ValueError("[aurora_optim] There is no parameter to optimize: params is empty")
            if is_named(entries):
                named = named_tensors(entries)
        if named is not None:
            if not named:
                raise ValueError("[aurora_optim] The model has no parameter that requires a gradient")
            entries = self._routed_groups(named, options)
        else:
            self._refuse_model_options(options, entries)
            if self.rule != "adamw":
                defaults |= {key: options[key] for key in checkpoints.DIMENSION_KEYS if key in options}
        super().__init__(entries, defaults)

    def _take_adamw_options(self, options: Mapping[str, Any], hyperparameters: list[str]) -> None:
        known = list(Options.__annotations__)
        if self.rule == "adamw":
            known = ["patterns"]
        for name, value in options.items():
            if name not in known:
                everything = [*hyperparameters, *known]
                raise TypeError(
                    f"[aurora_optim] {type(self).__name__} has no argument '{name}'; did you mean "
                    f"'{_core.nearest(name, everything)}'? There are: {', '.join(everything)}"
                )
            if name.startswith("adamw_"):
                self._adamw[name.removeprefix("adamw_")] = value
        _core.check_group({**self._adamw, "params": []}, 0)

    def _refuse_model_options(self, options: Mapping[str, Any], entries: list[Any]) -> None:
        groups = isinstance(entries[0], dict)
        for name in options:
            if name == "patterns" or (name.startswith("adamw_") and not groups):
                raise TypeError(
                    f"[aurora_optim] '{name}' is for a whole model or its named parameters, which are routed; these are "
                    "tensors, which all go to one rule"
                )

    def _routed_groups(self, named: list[Named], options: Mapping[str, Any]) -> list[dict[str, Any]]:
        """Hidden matrices in one group for each description of their dimensions, then everything else."""
        parameters, self.routing = route(named, self.rule, options.get("patterns", {}))
        if self.rule == "adamw":
            return [{"params": parameters}]
        described = {key: by_pattern(key, options.get(key), self.routing) for key in checkpoints.DIMENSION_KEYS}
        matrices: list[dict[str, Any]] = []
        others: list[tuple[str, Tensor]] = []
        for (name, tensor), routed in zip(parameters, self.routing):
            if routed.rule == "adamw":
                others.append((name, tensor))
                continue
            keys = {key: values.get(name) for key, values in described.items()}
            group = next((g for g in matrices if all(g[key] == keys[key] for key in keys)), None)
            if group is None:
                group = {"params": [], **keys}
                matrices.append(group)
            group["params"].append((name, tensor))
        if not matrices:
            warnings.warn(
                f"The model has no hidden matrix, so AdamW steps everything and {self.rule} nothing: print the routing",
                stacklevel=4,
            )
        return matrices + ([{"params": others, "rule": "adamw"}] if others else [])

    def add_param_group(self, param_group: dict[str, Any]) -> None:
        """Adds a group; what it does not say comes from the defaults of its rule. Raises, with nothing changed, where the
        rule cannot step a parameter. Keys that no rule knows are kept."""
        if not isinstance(param_group, dict):
            raise TypeError(f"[aurora_optim] A group must be a dict, not {type(param_group).__name__}")
        if "params" not in param_group:
            raise ValueError("[aurora_optim] A group needs the key 'params'")
        rule = param_group.get("rule", self.rule)
        if rule not in _core.RULES:
            raise ValueError(
                f"[aurora_optim] There is no rule {rule!r}; did you mean "
                f"'{_core.nearest(str(rule), _core.RULES)}'? There are: {', '.join(_core.RULES)}"
            )
        own = self.defaults if rule == self.rule else self._adamw if rule == "adamw" else defaults_of(rule)
        group = {**own, **param_group, "rule": rule}
        if not isinstance(group["params"], (Tensor, set)):
            group["params"] = list(group["params"])
        self._refuse_parameters(group)
        keys = set(group) | {"param_names"}
        super().add_param_group(group)
        for key in set(group) - keys:  # torch adds the defaults of the first rule
            del group[key]
        try:
            _core.check_group(group, len(self.param_groups) - 1)
        except Exception:
            self.param_groups.pop()
            raise

    def _refuse_parameters(self, group: dict[str, Any]) -> None:
        """What torch would take with a warning or refuse without the parameter's name."""
        params = [group["params"]] if isinstance(group["params"], Tensor) else group["params"]
        known = {id(p) for other in self.param_groups for p in other["params"]}
        for i, entry in enumerate(params):
            name, tensor = entry if isinstance(entry, tuple) and len(entry) == 2 else ("", entry)
            place = f"group {len(self.param_groups)}, parameter {i}" + (f" '{name}'" if name else "")
            if not isinstance(tensor, Tensor):
                raise TypeError(f"[aurora_optim] A parameter must be a Tensor, not {type(tensor).__name__}: {place}")
            place += f", shape {list(tensor.shape)}, rule {group['rule']}"
            refuse_sharded(tensor, place)
            if not (tensor.is_leaf or tensor.retains_grad):
                raise ValueError(f"[aurora_optim] A parameter must be a leaf, not the result of an operation: {place}")
            if id(tensor) in known:
                raise ValueError(f"[aurora_optim] A parameter is given twice: {place}")
            known.add(id(tensor))

    @overload
    def step(self, closure: None = None) -> None: ...
    @overload
    def step(self, closure: Callable[[], float]) -> float: ...
    @torch.compiler.disable(reason="the step of aurora_optim is compiled code already")  # type: ignore[untyped-decorator,no-untyped-call]
    def step(self, closure: Callable[[], float] | None = None) -> float | None:
        """One step. The closure, if there is one, computes the loss again, with gradients, and its value is returned."""
        if torch.cuda.is_available() and torch.cuda.is_current_stream_capturing():
            raise RuntimeError(
                "[aurora_optim] A CUDA graph cannot capture this step: it reads learning rates and the list of "
                "gradients on the host. Step outside the capture"
            )
        loss = None
        if closure is not None:
            with torch.enable_grad():
                loss = closure()
        # Both are there only while torch.amp.GradScaler calls.
        self._stepper.step(
            self.param_groups, self.state, getattr(self, "grad_scale", None), getattr(self, "found_inf", None)
        )
        return loss

    @property
    def skipped_steps(self) -> int:
        """Steps that changed nothing because a gradient was not finite. Waits for the device."""
        return self._stepper.skipped_steps

    @property
    def skipped_in_a_row(self) -> int:
        """The same, since the last step that changed something."""
        return self._stepper.skipped_in_a_row

    def state_dict(self) -> StateDict:
        """torch's layout. Groups of matrix rules also carry what torch.optim.Muon reads, so that it can go on."""
        state_dict = super().state_dict()
        groups = [checkpoints.with_muon_keys(group) for group in state_dict["param_groups"]]
        return {**state_dict, "param_groups": groups}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Goes on from a state dict of ours, of torch.optim.Muon or of torch.optim.AdamW. Its hyperparameters are taken;
        what it does not know (the polar factor, for torch's) stays. States keep their precision. Raises ValueError, with
        nothing changed, where rules, dimensions, names or shapes of states are not those of this optimizer."""
        last_hook = self.register_load_state_dict_pre_hook(SpectralOptimizer._translated)  # type: ignore[arg-type]
        try:
            super().load_state_dict(state_dict)
        finally:
            last_hook.remove()

    def _translated(self, state_dict: StateDict) -> StateDict | None:
        saved_groups = state_dict["param_groups"]
        if [len(g["params"]) for g in saved_groups] != [len(g["params"]) for g in self.param_groups]:
            return None  # torch's own message
        groups = [
            checkpoints.own_group(saved, own, g) for g, (saved, own) in enumerate(zip(saved_groups, self.param_groups))
        ]
        places = {key: (g, i) for g, group in enumerate(saved_groups) for i, key in enumerate(group["params"])}
        states = {}
        for key, saved in state_dict["state"].items():
            if key not in places:
                raise ValueError(f"[aurora_optim] The state dict has a state for {key!r}, which is in no group")
            g, i = places[key]
            own = {**self.param_groups[g], **groups[g], "params": self.param_groups[g]["params"]}
            states[key] = LoadedState(checkpoints.own_state(saved, own, g, i))
        return {**state_dict, "state": states, "param_groups": groups}

    def __getstate__(self) -> dict[str, Any]:
        skipped = (self.skipped_steps, self.skipped_in_a_row)
        return {**super().__getstate__(), "_adamw": self._adamw, "routing": self.routing, "_skipped": skipped}

    def __setstate__(self, state: dict[str, Any]) -> None:
        loaded: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state["state"].items():
            loaded[key] = value.state if isinstance(value, LoadedState) else value
        state = dict(state)
        skipped = state.pop("_skipped", None)
        super().__setstate__({**state, "state": loaded})
        if "_stepper" not in self.__dict__:
            self._stepper = _core.Stepper()
        if skipped is not None:
            self._stepper.set_skipped(*skipped)


__all__ = ["Dimensions", "Options", "SpectralOptimizer"]
