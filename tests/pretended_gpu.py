"""A GPU that is not there: tensors that say they are on another device, and compute on the CPU.

What mixes tensors of both devices fails here as it does with a GPU, and whatever the CPU would have to wait for is
counted. A device is registered for the rest of a process: tests call `elsewhere`.
"""
# ruff: noqa: ANN401 - operators and functions of torch take and return anything

import sys
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from contextlib import contextmanager
from multiprocessing import get_context
from pathlib import Path
from typing import Any, NamedTuple, TypeVar

import torch
from lightning_fabric import Fabric
from lightning_fabric.accelerators import CPUAccelerator
from lightning_fabric.strategies import SingleDeviceStrategy
from torch import Tensor, nn
from torch.overrides import TorchFunctionMode
from torch.utils import backend_registration
from torch.utils._python_dispatch import TorchDispatchMode, return_and_correct_aliasing
from torch.utils._pytree import tree_leaves, tree_map

import condetr

Result = TypeVar("Result")
Waits = Counter[str]
"""How often each of our functions waited for the device."""

NAME = "pretended"
COPIES = {"_to_copy", "copy_"}
DATA_DEPENDENT = {"_local_scalar_dense", "nonzero", "masked_select", "_unique2", "equal"}
"""Operators whose result the CPU has to know."""
_SOURCE = Path(condetr.__file__).parent


def elsewhere(work: Callable[..., Result], *args: object) -> Result:
    """Call a function in a process of its own."""
    with ProcessPoolExecutor(1, mp_context=get_context("spawn")) as pool:
        return pool.submit(work, *args).result()


@contextmanager
def pretended_gpu() -> Iterator[Waits]:
    """Let tensors be put on the device `NAME`, and count what is waited for."""
    backend_registration._setup_privateuseone_for_python_backend(NAME, backend_module=_Module())
    waits = Waits()
    with _Operators(waits), _Functions():
        yield waits


def fabric() -> Fabric:
    """Return a launched fabric on the device."""
    strategy = SingleDeviceStrategy(device=torch.device(NAME, 0))
    made = Fabric(accelerator=_Accelerator(), strategy=strategy, precision="32-true")
    made.launch()
    return made


class There(Tensor):
    """A tensor on the device."""

    here: Tensor
    """Holds the values."""

    @staticmethod
    def __new__(cls: type["There"], here: Tensor) -> "There":
        made = torch.Tensor._make_wrapper_subclass(
            cls,
            here.shape,
            strides=here.stride(),
            storage_offset=here.storage_offset(),
            dtype=here.dtype,
            device=torch.device(NAME, 0),
        )
        made.here = here
        return made

    @classmethod
    def __torch_dispatch__(cls, operator: Any, _: Any, args: tuple[Any, ...] = (), kwargs: Any = None) -> Any:  # type: ignore[override]
        return _Call(operator, args, kwargs or {}).run()

    def __deepcopy__(self, memo: Any) -> Tensor:
        copied = There(self.here.clone())
        return nn.Parameter(copied, requires_grad=self.requires_grad) if isinstance(self, nn.Parameter) else copied

    def __reduce_ex__(self, protocol: Any) -> Any:
        return self.here.__reduce_ex__(protocol)


class _Call(NamedTuple):
    """One of torch's operators with what it is given."""

    operator: Any
    args: tuple[Any, ...]
    kwargs: dict[str, Any]

    def run(self) -> Any:
        """Run it on the CPU; the result is where a device would have it."""
        if self.is_there and self.name not in COPIES:
            assert all(isinstance(tensor, There) or not tensor.dim() for tensor in self.tensors), (
                f"two devices: {self.name}"
            )
        if self.name == "_fused_sdp_choice":
            return 0  # the kernel that is made of others
        device = {"device": torch.device("cpu")} if self.kwargs.get("device") is not None else {}
        with torch.inference_mode(mode=False), torch.no_grad():
            result = self.operator(*tree_map(_here, self.args), **tree_map(_here, self.kwargs | device))
            if not self.goes_there:
                return result
            wrapped = tree_map(_there, result)
            return (
                return_and_correct_aliasing(self.operator, self.args, self.kwargs, wrapped)
                if self.is_there
                else wrapped
            )

    @property
    def name(self) -> str:
        name: str = self.operator.overloadpacket.__name__
        return name

    @property
    def tensors(self) -> list[Tensor]:
        return [value for value in tree_leaves((self.args, self.kwargs)) if isinstance(value, Tensor)]

    @property
    def is_there(self) -> bool:
        return any(isinstance(tensor, There) for tensor in self.tensors)

    @property
    def goes_there(self) -> bool:
        if self.name == "copy_":
            return isinstance(self.args[0], There)
        device = self.kwargs.get("device")
        return self.is_there if device is None else torch.device(device).type == NAME

    @property
    def is_waited_for(self) -> bool:
        if self.name in COPIES:
            places = {self.goes_there, *(isinstance(tensor, There) for tensor in self.tensors)}
            is_async = self.kwargs.get("non_blocking") or self.args[2:] == (True,)
            return len(places) > 1 and not (self.goes_there and is_async)
        is_by_mask = self.name == "index" and any(tensor.dtype == torch.bool for tensor in self.tensors[1:])
        return self.is_there and (is_by_mask or self.name in DATA_DEPENDENT)


def _here(value: Any) -> Any:
    return value.here if isinstance(value, There) else value


def _there(value: Any) -> Any:
    return There(value) if isinstance(value, Tensor) else value


class _Operators(TorchDispatchMode):
    def __init__(self, waits: Waits) -> None:
        super().__init__()  # type: ignore[no-untyped-call]
        self.waits = waits

    def __torch_dispatch__(self, operator: Any, _: Any, args: Any = (), kwargs: Any = None) -> Any:
        if torch.is_inference_mode_enabled():  # where operators that are made of others come by as they are
            with self:
                result = operator.decompose(*args, **(kwargs or {}))
            if result is not NotImplemented:
                return result
        call = _Call(operator, args, kwargs or {})
        if call.is_waited_for:
            self.waits[_asker()] += 1
        return call.run()


def _asker() -> str:
    """Return the innermost of our functions."""
    frame = sys._getframe(1)
    while frame.f_back is not None:
        path = Path(frame.f_code.co_filename)
        if path.is_relative_to(_SOURCE):
            return f"{path.stem}: {frame.f_code.co_qualname.partition('.<locals>')[0]}"
        frame = frame.f_back
    return "elsewhere"


class _Functions(TorchFunctionMode):
    """What does not come by as an operator."""

    def __torch_function__(self, function: Any, _: Any, args: Sequence[Any] = (), kwargs: Any = None) -> Any:
        options = dict(kwargs or {})
        if function in (torch.tensor, torch.as_tensor) and options.get("device") is not None:
            device = options.pop("device")
            return function(*args, **options).to(device)
        if function is Tensor.new_tensor and isinstance(args[0], There):
            return args[0].here.new_tensor(*args[1:], **options).to(NAME)
        return function(*args, **options)


class _Module(backend_registration._DummyBackendModule):
    def current_device(self) -> int:
        return 0

    def _is_in_bad_fork(self) -> bool:
        return False

    def manual_seed_all(self, seed: int) -> None:
        """Random numbers are the CPU's."""


class _Accelerator(CPUAccelerator):
    def setup_device(self, device: torch.device) -> None:
        """There is nothing to set up."""

    @staticmethod
    def get_parallel_devices(devices: Any) -> list[torch.device]:
        return [torch.device(NAME, 0)]
