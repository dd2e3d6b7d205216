/* Where the programs and files are that belong to this pypoolctl. The caller frees them; NULL: not found. */
#pragma once

char *doctor_find_pypoold(void);
/* The directory that holds the package pypool_worker. */
char *doctor_find_library(void);
