"""The torch.optim.Optimizer that all six classes are."""

from __future__ import annotations

import functools
import warnings
from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping
from typing import Any, ClassVar, overload

import torch
from torch import Tensor, nn
from torch.optim.optimizer import Optimizer, ParamsT, StateDict

from . import _core, checkpoints, ranks
from .groups import (
    CUT_KEYS,
    Dimensions,
    Options,
    adamw_options,
    defaults_of,
    named_of,
    plan,
    rate_of,
    refuse_mistyped_keys,
    refuse_unknown_options,
)
from .layouts import local_view
from .messages import suggestion
from .routing import Named, Routing, refuse_sharded
from .statistics import Watch

# Skipped steps in a row after which one warning is given.
MANY_SKIPPED = 50


class LoadedState:
    """A state on its way through torch's load_state_dict, which would cast it to the parameter's type."""

    def __init__(self, state: dict[str, Any]) -> None:
        self.state = state


class SpectralOptimizer(Optimizer):
    """A torch.optim.Optimizer whose groups may each follow any of the rules (key "rule" of a group).

    A step looks at all gradients of all groups first: one Inf or NaN and neither weights nor state change, and
    `skipped_steps` counts it. Parameters are float32, float64, bfloat16 or float16; states are float64 for float64
    parameters, else float32, under torch's names. Frozen parameters of a model are in its groups and are passed over
    while they have no gradient. CPU tensors are stepped by the core's own kernels with torch.get_num_threads()
    threads, tensors on other devices by ATen operations: there polar="auto" is seven steps of Polar Express in float16 for
    float32 matrices, and a step with it does not wait for the device, but for balance "carried" and "optimum" and for
    RiemannianAurora.
    """

    rule: ClassVar[str]
    # torch.amp.GradScaler divides gradients and skips steps itself, so that they can be clipped in between.
    _step_supports_amp_scaling = False

    def __init__(
        self, params: ParamsT | nn.Module, hyperparameters: dict[str, Any], options: Mapping[str, Any]
    ) -> None:
        defaults = defaults_of(self.rule) | hyperparameters
        refuse_unknown_options(type(self).__name__, self.rule, options, hyperparameters)
        self._ranks_options, options = ranks_options(options)
        self._adamw = defaults_of("adamw") | adamw_options(options)
        _core.check_group({**self._adamw, "params": []}, 0)
        self._routing = Routing()
        self._prepare()
        if isinstance(params, Tensor) or not isinstance(params, (nn.Module, Iterable)):
            raise TypeError(
                "[aurora_optim] params must be a model or a list of tensors, of named parameters or of groups, not "
                f"one {type(params).__name__}"
            )
        entries: Any = params if isinstance(params, nn.Module) else list(params)
        if not isinstance(entries, nn.Module) and not entries:
            raise ValueError("[aurora_optim] There is no parameter to optimize: params is empty")
        named = named_of(entries)
        if named is not None:
            entries = self._planned(named, options)
        else:
            self._refuse_model_options(options, entries)
            if self.rule != "adamw":
                defaults |= {key: options[key] for key in CUT_KEYS if key in options}
        super().__init__(entries, defaults)
        self._equal_rates = len(self.param_groups) < 2 or self._rates_are_equal()

    @property
    def routing(self) -> Routing:
        """How the parameters of the model were routed, and how each matrix is computed with the hyperparameters that its
        group has now, on the device where it is now; empty where the optimizer was made from tensors or groups."""
        methods = {
            name: _core.method_text(group, parameter)
            for group in self.param_groups
            if group["rule"] != "adamw"
            for name, parameter in zip(group.get("param_names", ()), group["params"])
        }
        return Routing(entry._replace(method=methods.get(entry.name, "")) for entry in self._routing)

    def _prepare(self) -> None:
        """What belongs to this object alone, and neither to its state nor to copies."""
        self._stepper = _core.Stepper()
        self._sharing = ranks.Sharing(self._ranks_options)
        self._watch: Watch | None = None
        self._known: dict[int, Named] = {}
        self._warned: set[str] = set()
        self._steps = 0
        self._equal_rates = True

    @classmethod
    def factory(cls) -> Callable[..., SpectralOptimizer]:
        """For the Trainer of transformers and TRL, which calls what this returns with the model:
        Trainer(..., optimizer_cls_and_kwargs=(Aurora.factory, {"lr": 0.02})). Trainers save the state of process 0 alone,
        so every process keeps all states of plain parameters, unless the options name a process_group."""
        make: Callable[..., SpectralOptimizer] = cls
        return functools.partial(make, process_group=None)

    def _refuse_model_options(self, options: Mapping[str, Any], entries: Any) -> None:
        groups = isinstance(entries[0], dict)
        for name, value in options.items():
            if value is None:
                continue
            if name in ("patterns", "exclude") or (name.startswith("adamw_") and not groups):
                raise TypeError(
                    f"[aurora_optim] '{name}' is for a whole model or its named parameters, which are routed; these are "
                    "tensors, which all go to one rule"
                )

    def _planned(
        self, named: list[Named], options: Mapping[str, Any], model: list[Named] | None = None
    ) -> list[dict[str, Any]]:
        if not any(p.tensor.requires_grad for p in named):
            raise ValueError("[aurora_optim] The model has no parameter that requires a gradient")
        groups, routing = plan(named, self.rule, options, model)
        self._routing = Routing((*self._routing, *routing))
        self._known |= {id(p.tensor): p for p in named}
        if all(group["rule"] == "adamw" for group in groups) and self.rule != "adamw":
            warnings.warn(
                f"The model has no hidden matrix, so AdamW steps everything and {self.rule} nothing: print the routing",
                stacklevel=5,
            )
        return groups

    def add_param_group(self, param_group: dict[str, Any] | nn.Module) -> None:
        """Adds a group; what it does not say comes from the defaults of its rule. Raises, with nothing changed, where the
        rule cannot step a parameter. Keys that no rule knows are kept, mistyped ones are refused.

        A module, alone or as the "params" of a group, is routed as a whole model, and so are named parameters and the
        tensors of the model that the optimizer was made from, unless the group names a rule: it becomes several groups.
        Its "lr" is that of the matrices, and AdamW's is changed by the same factor."""
        group = {"params": param_group} if isinstance(param_group, nn.Module) else param_group
        if not isinstance(group, dict):
            raise TypeError(f"[aurora_optim] A group must be a dict, not {type(group).__name__}")
        if "params" not in group:
            raise ValueError("[aurora_optim] A group needs the key 'params'")
        named, model = self._to_route(group)
        if named is None:
            self._add_group(group)
            return
        before, routing = len(self.param_groups), self._routing
        own = {key: value for key, value in group.items() if key != "params"}
        options = {key: own.pop(key) for key in ("patterns", "exclude", *CUT_KEYS) if key in own}
        try:
            for part in self._planned(named, options, model):
                keys = own if part["rule"] == self.rule else self._adamw_keys(own)
                self._add_group({**keys, **part})
        except Exception:
            del self.param_groups[before:]
            self._routing = routing
            raise

    def _adamw_keys(self, own: Mapping[str, Any]) -> dict[str, Any]:
        """What a routed group says of the parameters that go to AdamW."""
        keys = {key: value for key, value in own.items() if key not in self.defaults and not key.startswith("adamw_")}
        if "lr" in own:
            keys["lr"] = float(self._adamw["lr"]) * float(own["lr"]) / float(self.defaults["lr"])
        return keys | adamw_options(own)

    def _to_route(self, group: dict[str, Any]) -> tuple[list[Named] | None, list[Named] | None]:
        """The parameters of a group that is to be routed and the model that they are of, where it is known; None for a
        group that goes to one rule."""
        params = group["params"]
        if not isinstance(params, nn.Module):
            if "rule" in group or not self._routing or isinstance(params, (Tensor, set)):
                return None, None
            params = group["params"] = list(params)
            if params and all(id(entry) in self._known for entry in params):
                return [self._known[id(entry)] for entry in params], list(self._known.values())
        named = named_of(params)
        # What comes later is no head, unless it is called one.
        return [p._replace(backbone=True) for p in named] if named is not None else None, None

    def _add_group(self, param_group: dict[str, Any]) -> None:
        rule = param_group.get("rule", self.rule)
        if rule not in _core.RULES:
            raise ValueError(
                f"[aurora_optim] There is no rule {rule!r}{suggestion(str(rule), _core.RULES)} "
                f"There are: {', '.join(_core.RULES)}"
            )
        own = self.defaults if rule == self.rule else self._adamw if rule == "adamw" else defaults_of(rule)
        group = {**own, **param_group, "rule": rule}
        refuse_mistyped_keys(group)
        if not isinstance(group["params"], (Tensor, set)):
            group["params"] = list(group["params"])
        self._name_parameters(group)
        self._refuse_parameters(group)
        keys = set(group) | {"param_names"}
        super().add_param_group(group)
        for key in set(group) - keys:  # torch adds the defaults of the first rule
            del group[key]
        try:
            _core.check_group(local_view(group), len(self.param_groups) - 1)
        except Exception:
            self.param_groups.pop()
            raise

    def _name_parameters(self, group: dict[str, Any]) -> None:
        """torch wants names of all parameters or of none: plain tensors beside named ones get one from their place."""
        params = group["params"]
        if not self.param_groups or "param_names" not in self.param_groups[0] or isinstance(params, set):
            return
        entries = [params] if isinstance(params, Tensor) else params
        g = len(self.param_groups)
        group["params"] = [
            (f"group{g}.{i}", entry) if isinstance(entry, Tensor) else entry for i, entry in enumerate(entries)
        ]

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
        self._look_around()
        watch = self._watch if self._watch is not None and self._watch.is_due(self._steps) else None
        if watch:
            watch.begin(self.param_groups)
        self._step_here(getattr(self, "grad_scale", None), getattr(self, "found_inf", None))
        if watch:
            watch.end(self.param_groups, self.state)
        self._steps += 1
        self._warn_of_many_skipped()
        return loss

    def _step_here(self, grad_scale: Tensor | None, found_inf: Tensor | None) -> None:
        plan = self._sharing.prepare(self.param_groups, self.state)
        if plan is None:
            self._stepper.step(self.param_groups, self.state, grad_scale, found_inf)
            return
        with torch.no_grad():
            views = self._sharing.views(plan, self.param_groups, self.state)
            self._stepper.step(views, {}, grad_scale, found_inf, plan.ranks, self._steps)
            self._sharing.keep(plan, self.state)

    @property
    def description(self) -> str:
        """What computes, and what this process shares with which others: the part of the work that it owns, how even
        the assignment is, bytes that it sent in the last step."""
        return "\n".join([self._stepper.description, *self._sharing.description()])

    def _warn_once(self, what: str, text: str) -> None:
        if what not in self._warned:
            self._warned.add(what)
            warnings.warn(f"[aurora_optim] {text}", stacklevel=6)

    def _look_around(self) -> None:
        """What is no error, and nearly always a mistake."""
        if all(p.grad is None for group in self.param_groups for p in group["params"]):
            self._warn_once(
                "no gradient",
                "No parameter of this step has a gradient, so nothing changes: was the optimizer made before the model "
                "was wrapped, sharded or given other parameters (fully_shard, peft)? Then make it again",
            )
        if not self._equal_rates and self._rates_are_equal():
            self._warn_once(
                "equal rates",
                f"Every group now has the learning rate {self.param_groups[0]['lr']}, that of AdamW too, which was "
                "another: OneCycleLR, CyclicLR and SWALR set rates and do not scale them, so give them one for each "
                "group, [group['lr'] * factor for group in optimizer.param_groups]",
            )

    def _rates_are_equal(self) -> bool:
        rates = [rate_of(group) for group in self.param_groups]
        return len(rates) > 1 and rates[0] is not None and rates[0] > 0 and all(rate == rates[0] for rate in rates)

    def _warn_of_many_skipped(self) -> None:
        on_host = all(p.is_cpu for group in self.param_groups for p in group["params"][:1])
        if not on_host and self._steps % MANY_SKIPPED != 0:  # the count waits for the device
            return
        if self.skipped_in_a_row >= MANY_SKIPPED:
            self._warn_once(
                "many skipped",
                f"{self.skipped_in_a_row} steps in a row changed nothing, because a gradient has an Inf or NaN: the "
                "model or its loss has diverged",
            )

    def watch(self, every: int = 100) -> None:
        """Measures each `every`th step, for loggers: see `statistics`. 0: no step. A watched step copies the matrices of
        weights once and takes about twice as long."""
        self._watch = Watch(every) if every else None

    @property
    def statistics(self) -> dict[str, float]:
        """Of the last step that was watched, for each group by its "name" or its number and rule: `0.aurora/update_rms`,
        the root mean square of what the step changed; `/update_to_weight`, the norm of that over the norm of the weights;
        of matrices `/starved`, the share of rows (columns where these are more) whose leverage in the momentum is below a
        tenth of the balanced value."""
        return dict(self._watch.statistics) if self._watch else {}

    @property
    def skipped_steps(self) -> int:
        """Steps that changed nothing because a gradient was not finite. Waits for the device."""
        return self._stepper.skipped_steps

    @property
    def skipped_in_a_row(self) -> int:
        """The same, since the last step that changed something."""
        return self._stepper.skipped_in_a_row

    gathers_states = False
    """Under DistributedDataParallel: whether state_dict() is a call that all processes make together, and that gives
    all states to each. Else it raises, because a process has the momentum of its own matrices alone."""

    def state_dict(self) -> StateDict:
        """torch's layout. Groups of matrix rules also carry what torch.optim.Muon reads, so that it can go on. States of
        DTensors are DTensors. Where processes share plain matrices, see gathers_states."""
        if self._sharing.has_states_elsewhere():
            if not self.gathers_states:
                raise RuntimeError(
                    "[aurora_optim] Momentum is on the process that owns its matrix, and this process has only its own: set "
                    "optimizer.gathers_states = True and call state_dict() on all processes, or make the optimizer with "
                    "process_group=None, which steps every matrix on every process"
                )
            state_dict = self._with_gathered_states()
        else:
            state_dict = super().state_dict()
        groups = [checkpoints.with_muon_keys(group) for group in state_dict["param_groups"]]
        for group in groups:
            if "process_group" in group:
                group["process_group"] = None  # no file can hold one; who loads has its own
        return {**state_dict, "param_groups": groups}

    def _with_gathered_states(self) -> StateDict:
        elsewhere = []
        try:
            for entry, state in ranks.gathered_states(self._sharing.plan, self.state):  # type: ignore[arg-type]
                if entry.is_elsewhere:
                    elsewhere.append(entry.tensor)
                    self.state[entry.tensor] = state
            return super().state_dict()
        finally:
            for tensor in elsewhere:
                self.state[tensor] = {}

    def load_state_dict(self, state_dict: StateDict) -> None:
        """Goes on from a state dict of ours, of torch.optim.Muon or of torch.optim.AdamW. Its hyperparameters are taken;
        what it does not know (the polar factor, for torch's) stays. States keep their precision. Where both have names of
        parameters these count, not the order. A state of rows that the saved rule does not keep begins anew, with a
        warning. Raises ValueError, with nothing changed, where rules, cuts, names or shapes of states are not those of
        this optimizer, and for a state dict of SGD or of Adam with weight decay."""
        last_hook = self.register_load_state_dict_pre_hook(SpectralOptimizer._translated)  # type: ignore[arg-type]
        try:
            super().load_state_dict(state_dict)
        finally:
            last_hook.remove()

    def load_pair(self, muon: StateDict, adamw: StateDict) -> None:
        """Goes on from torch.optim.Muon and torch.optim.AdamW, which stepped this model together: by names where both
        state dicts have them, else in the order of the model."""
        order = {entry.name: i for i, entry in enumerate(self._routing)}
        self.load_state_dict(checkpoints.joined(muon, adamw, self.param_groups, order))

    def _translated(self, state_dict: StateDict) -> StateDict | None:
        state_dict = checkpoints.by_names(state_dict, self.param_groups)
        saved_groups = state_dict["param_groups"]
        if [len(g["params"]) for g in saved_groups] != [len(g["params"]) for g in self.param_groups]:
            return None  # torch's own message
        groups = [
            checkpoints.own_group(saved, own, g) for g, (saved, own) in enumerate(zip(saved_groups, self.param_groups))
        ]
        places = {key: (g, i) for g, group in enumerate(saved_groups) for i, key in enumerate(group["params"])}
        states = {}
        fresh: set[str] = set()
        for key, saved in state_dict["state"].items():
            if key not in places:
                raise ValueError(f"[aurora_optim] The state dict has a state for {key!r}, which is in no group")
            g, i = places[key]
            own = {**self.param_groups[g], **groups[g], "params": self.param_groups[g]["params"]}
            states[key] = LoadedState(checkpoints.own_state(saved, own, g, i, fresh))
        for name in sorted(fresh):
            warnings.warn(f"[aurora_optim] The state dict has no {name}: these states of rows begin anew", stacklevel=6)
        return {**state_dict, "state": states, "param_groups": groups}

    def __getstate__(self) -> dict[str, Any]:
        skipped = (self.skipped_steps, self.skipped_in_a_row)
        own = {
            "_adamw": self._adamw,
            "_routing": self._routing,
            "_skipped": skipped,
            "_equal_rates": self._equal_rates,
            "_ranks_options": ranks.copied(self._ranks_options),
        }
        return {**super().__getstate__(), **own}

    def __setstate__(self, state: dict[str, Any]) -> None:
        loaded: defaultdict[Any, Any] = defaultdict(dict)
        for key, value in state["state"].items():
            loaded[key] = value.state if isinstance(value, LoadedState) else value
        state = dict(state)
        skipped = state.pop("_skipped", None)
        self._ranks_options = state.pop("_ranks_options", self.__dict__.get("_ranks_options", ranks.Options()))
        if "_stepper" not in self.__dict__:
            self._prepare()
        super().__setstate__({**state, "state": loaded})
        self._sharing = ranks.Sharing(self._ranks_options)  # what is loaded may be of others: shared out at the next step
        if skipped is not None:
            self._stepper.set_skipped(*skipped)


def ranks_options(options: Mapping[str, Any]) -> tuple[ranks.Options, dict[str, Any]]:
    """What the options say of other processes, and the rest of them."""
    own = {"process_group": "process_group", "overlap": "overlap", "process_timeout": "timeout"}
    said = {field: options[key] for key, field in own.items() if key in options}
    timeout = said.get("timeout", 0.0)
    if not isinstance(timeout, (int, float)) or not 0 <= timeout < float("inf"):
        raise ValueError(f"[aurora_optim] process_timeout must be a number of seconds >= 0, not {timeout!r}")
    return ranks.Options(**said), {key: value for key, value in options.items() if key not in own}


__all__ = ["Dimensions", "Options", "SpectralOptimizer"]
