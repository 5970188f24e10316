// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import jakarta.persistence.Column;
import jakarta.persistence.Entity;
import jakarta.persistence.Id;
import jakarta.persistence.Version;

/** Our copy of an employee. */
@Entity
public class Employee {

    @Id
    private Long id;

    @Column(nullable = false)
    private String department;

    /** The owner's count of changes. It only grows, so that an older message cannot undo a newer one. */
    @Column(nullable = false)
    private long revision;

    /** Two instances that read the same version cannot both write: the second one fails. Null until it is stored. */
    @Version
    private Long version;

    protected Employee() {
        // for JPA
    }

    Employee(long id) {
        this.id = id;
    }

    void take(EmployeeState state) {
        if (state.revision() > revision) {
            department = state.department();
            revision = state.revision();
        }
    }

    EmployeeState state() {
        return new EmployeeState(id, department, revision);
    }
}
