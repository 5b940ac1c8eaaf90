"""Known noise of third parties, silenced by name so that any other warning still shows."""

import contextlib
import warnings
from collections.abc import Iterator

_NOISE: tuple[tuple[str, type[Warning]], ...] = (
    # peft asks transformers for a property by its old name.
    ("`is_gradient_checkpointing` is deprecated", FutureWarning),
    # mergekit.io.lazy_unpickle names numpy.core in its allow list.
    ("numpy.core is deprecated", DeprecationWarning),
    # torch.quantize_per_channel, which is the int8 that models of these years were made with.
    ("torch.quantize_per_tensor, torch.quantize_per_channel", UserWarning),
)


@contextlib.contextmanager
def quiet_tools() -> Iterator[None]:
    """Silence what PEFT, mergekit and transformers are known to say while all is well."""
    import transformers

    transformers.utils.logging.set_verbosity_error()
    transformers.utils.logging.disable_progress_bar()
    with warnings.catch_warnings():
        for message, category in _NOISE:
            warnings.filterwarnings("ignore", message, category)
        yield
