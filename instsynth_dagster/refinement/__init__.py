"""Syn4Seg's refinement of pseudo-labels: prototypes filter and relabel (APF, APR), a refiner corrects borders
(SABR).
"""
