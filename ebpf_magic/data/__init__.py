"""Raw bytes to pandas: BTF, maps, histograms. Pure Python, NumPy and pandas; no kernel, no thread, no ctypes."""
