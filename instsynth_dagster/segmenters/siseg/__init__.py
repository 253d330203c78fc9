"""SISeg: from a semantic map to instances, by displacement fields and boundaries."""
