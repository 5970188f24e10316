// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import java.util.List;
import java.util.Optional;
import org.springframework.stereotype.Service;
import org.springframework.transaction.annotation.Transactional;

/** Writes employees. Whoever calls it may find that another instance was faster: then nothing was written. */
@Service
class EmployeeService {

    private final EmployeeRepository employees;

    EmployeeService(EmployeeRepository employees) {
        this.employees = employees;
    }

    @Transactional
    public void take(List<EmployeeState> states) {
        for (EmployeeState state : states) {
            Employee employee = employees.findById(state.id()).orElseGet(() -> new Employee(state.id()));
            employee.take(state);
            employees.save(employee);
        }
    }

    @Transactional(readOnly = true)
    public Optional<EmployeeState> find(long id) {
        return employees.findById(id).map(Employee::state);
    }
}
