// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import java.util.List;

/** A message about several employees at once; all of them change, or none. */
public record EmployeesChanged(List<EmployeeState> employees) {
}
