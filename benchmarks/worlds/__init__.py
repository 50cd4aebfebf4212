"""What training does to the built-in model, in its two worlds: ``python -m benchmarks.worlds run|tables``.

*Another machine*: training and test on scanner B, which the model has never seen. *Something new*: the twins, findings
that it was never taught to tell apart, on the scanner that it knows. Beside the trainings stand their controls.
"""
