"""Why an answer changed: the patches that would bring it back, or those that it cannot do without."""
