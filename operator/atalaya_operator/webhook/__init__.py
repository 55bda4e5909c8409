"""The admission webhook: refuses what only a look at the cluster can tell, before it is stored."""
