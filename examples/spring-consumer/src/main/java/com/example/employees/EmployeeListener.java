// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import org.springframework.kafka.annotation.KafkaListener;
import org.springframework.stereotype.Component;

/** Takes messages in. What fails here goes to the one CommonErrorHandler, which is what the profiles differ in. */
@Component
class EmployeeListener {

    private final EmployeeService service;

    EmployeeListener(EmployeeService service) {
        this.service = service;
    }

    @KafkaListener(topics = "${employees.topic}")
    void on(EmployeesChanged message) {
        service.take(message.employees());
    }
}
