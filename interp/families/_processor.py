"""Processors of the tiny models that have to be built without torchvision."""

from typing import Any


def without_video(processor_class: type, **settings: Any) -> Any:
    """Return a processor that takes no videos, where transformers insists on a video processor and that on torchvision.

    Args:
        processor_class: the real processor class; it stays the class of what is returned.
        settings: everything its constructor takes but the video processor.
    """
    processor: Any = object.__new__(processor_class)
    # The constructor looks up the class a video processor should have, and that look-up fails where torchvision is missing.
    processor.check_argument_for_proper_class = lambda name, argument: type(argument)
    processor.__init__(video_processor=None, **settings)
    del processor.check_argument_for_proper_class
    return processor
