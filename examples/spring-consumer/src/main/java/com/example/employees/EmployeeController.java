// SPDX-License-Identifier: Apache-2.0
package com.example.employees;

import java.util.List;
import org.springframework.dao.ConcurrencyFailureException;
import org.springframework.dao.DataIntegrityViolationException;
import org.springframework.http.HttpStatus;
import org.springframework.http.ResponseEntity;
import org.springframework.web.bind.annotation.ExceptionHandler;
import org.springframework.web.bind.annotation.GetMapping;
import org.springframework.web.bind.annotation.PathVariable;
import org.springframework.web.bind.annotation.PutMapping;
import org.springframework.web.bind.annotation.ResponseStatus;
import org.springframework.web.bind.annotation.RestController;
import org.springframework.web.client.HttpClientErrorException;
import org.springframework.web.client.RestClientException;

/** What Redrive calls. */
@RestController
class EmployeeController {

    private final EmployeeOwner owner;
    private final EmployeeService service;

    EmployeeController(EmployeeOwner owner, EmployeeService service) {
        this.owner = owner;
        this.service = service;
    }

    /**
     * Brings one employee up to date: asks the owner, and writes what is true now. It takes no body and may be repeated at will,
     * so one call makes up for however many failed messages about this employee.
     *
     * <p>The owner is asked outside of the transaction, which would hold a connection meanwhile. What it said may then be
     * older than what a message has written since; the revision sees to that. Without such a number read the row first, and
     * then ask, in one transaction: {@code @Version} refuses the write when the row has changed.
     */
    @PutMapping("/employees/{id}")
    ResponseEntity<Void> sync(@PathVariable long id) {
        service.take(List.of(owner.get(id)));
        return ResponseEntity.noContent().build();
    }

    @GetMapping("/employees/{id}")
    ResponseEntity<EmployeeState> show(@PathVariable long id) {
        return ResponseEntity.of(service.find(id));
    }

    /** Somebody else was faster, here too. Redrive calls again later, and does not take it for an outage. */
    @ExceptionHandler({ConcurrencyFailureException.class, DataIntegrityViolationException.class})
    @ResponseStatus(HttpStatus.CONFLICT)
    void conflict() {
    }

    /** The owner knows no such employee: to try again is hopeless, and Redrive parks it for a person to see. */
    @ExceptionHandler(HttpClientErrorException.NotFound.class)
    @ResponseStatus(HttpStatus.NOT_FOUND)
    void unknown() {
    }

    /** The owner does not answer, or not well: Redrive waits for it. */
    @ExceptionHandler(RestClientException.class)
    @ResponseStatus(HttpStatus.SERVICE_UNAVAILABLE)
    void ownerIsAway() {
    }
}
