"""`atalaya bench`: how fast servers and engines answer, how sure that figure is, and the 2020 thesis' tables again.

Plans, quantiles, records and reports are pure; what talks to servers, processes and charts stands at the edge.
"""
