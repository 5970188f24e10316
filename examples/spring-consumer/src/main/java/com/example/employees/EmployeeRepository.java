// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import org.springframework.data.jpa.repository.JpaRepository;

interface EmployeeRepository extends JpaRepository<Employee, Long> {
}
