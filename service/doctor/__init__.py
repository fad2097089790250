"""`callstream doctor`: every link between a call in Teams and an event in Kafka, looked at in order.

`finding` what a look brings · `walk` the order, deadlines, what depends on what · `case` what checks share · one module
for each link or two: the asking is thin, the judging is functions of values. Nothing is created, changed or deleted.
"""
