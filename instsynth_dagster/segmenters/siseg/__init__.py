"""SISeg: instances from a semantic map, by displacement fields and boundaries."""
