"""What explains a mixture to a person: neighbours, near-duplicates, misfiled documents, a map, and other mixtures beside it.

Imports the rest of weights/, but not the recorded mixture, which holds what is found here.
"""
