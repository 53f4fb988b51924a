"""Found in place of ipywidgets by the notebooks that the site executes (see conf.py)."""

raise ImportError("a page has no kernel that sliders could ask")
