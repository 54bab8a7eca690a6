"""Several views as one output."""

from __future__ import annotations

from functools import cached_property
from typing import Any

from ebpf_magic.views.base import WIDGET_MIME, View


class Panel:
    """Views below one another in one output, and one bundle at the end.

    Parameters
    ----------
    *views : View
        From top to bottom.
    """

    def __init__(self, *views: View) -> None:
        self.views = views
        self._closed = False

    @cached_property
    def widget(self) -> Any:
        """The only view's widget, or a column of all of them."""
        if len(self.views) == 1:
            return self.views[0].widget
        import ipywidgets  # only a notebook needs it

        return ipywidgets.VBox([view.widget for view in self.views])

    @property
    def has_page(self) -> bool:
        """Whether a kernel is there that can show widgets; a plain IPython shows text."""
        return WIDGET_MIME in self.views[0]._repr_mimebundle_()

    def text(self) -> str:
        """Return the latest state of all views as plain text."""
        return "\n\n".join(view.text() for view in self.views)

    def bundle(self) -> dict[str, Any]:
        """Return the latest state of all views as a mime bundle that needs no widget and no kernel."""
        bundles = [view.bundle() for view in self.views]
        merged = {key: value for bundle in bundles for key, value in bundle.items()}
        merged["text/plain"] = "\n\n".join(bundle["text/plain"] for bundle in bundles)
        merged["text/html"] = "".join(bundle["text/html"] for bundle in bundles)
        return merged

    def show(self) -> dict[str, Any]:
        """Return the mime bundle to display now: a widget where there is a page, else text."""
        if self._closed:
            return self.bundle()
        if not self.has_page:
            return {"text/plain": self.text()}
        model = {"version_major": 2, "version_minor": 0, "model_id": self.widget.model_id}
        return {"text/plain": self.text(), WIDGET_MIME: model}

    def close(self) -> None:
        """Close all widgets; the last state stays readable."""
        self._closed = True
        column = self.__dict__.get("widget")
        if column is not None and len(self.views) > 1:
            column.layout.close()
            column.close()
        for view in self.views:
            view.close()
