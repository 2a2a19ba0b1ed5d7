"""Cloud drivers: each wraps one libcloud driver, or plays one."""
