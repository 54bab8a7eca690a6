"""Something to look at: widgets that move while a cell runs, and what stays of them when they stop.

A view is given its data by its caller's thread and starts none. Importing this package imports neither
anywidget nor matplotlib.
"""

from ebpf_magic.views.base import View
from ebpf_magic.views.card import CardView
from ebpf_magic.views.histogram import HistogramView
from ebpf_magic.views.table import TableView

__all__ = ["CardView", "HistogramView", "TableView", "View"]
