"""Records in, tables, figures and a page out; figures are only averaged over seeds. Free of torch."""
