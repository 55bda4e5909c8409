"""Why a model is not as it should be: from pods, nodes, warnings and a log to one reason, its evidence, a next step.

Pure. One module a family of causes; `explain.py` says which of several causes is told, and `questions.py` what is to be
asked for beyond what is watched.
"""
