// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

/** An employee as the owner has it, in messages and over HTTP. The first revision is 1. */
public record EmployeeState(long id, String department, long revision) {
}
