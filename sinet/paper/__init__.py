"""Records in, tables and figures out; no model runs here, figures are only averaged over seeds. Free of torch."""
