"""Active measurement: packets of our own to where a class's traffic goes, and what became of them."""
