"""One module a system; `sinet.systems` finds them by file name."""
