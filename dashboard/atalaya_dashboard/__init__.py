"""The pages that an analyst reads: the map of damage, the live state of serving, and assessing a new scene."""
